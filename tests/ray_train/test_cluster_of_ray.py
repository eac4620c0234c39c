"""What a command says of the Ray that it is about to use, before Ray itself says it worse."""

import socket
from typing import Any

import pytest

from bisieve.errors import BisieveError, TrainingError
from ray_train.cluster import check_socket_room, cluster, token_error


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What ``ray.init`` is asked for, and what was printed before; it is replaced, and starts nothing."""
    asked: dict[str, Any] = {}
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda **options: asked.update(options, said=capsys.readouterr().out))
    monkeypatch.setattr("ray.shutdown", lambda: None)
    return asked


def test_a_ray_that_happens_to_run_on_this_machine_is_not_used(asked: dict[str, Any]) -> None:
    with cluster(1):
        assert asked["address"] == "local", "Ray's word for a new one, whatever else `ray start` has started"
        assert asked["said"] == "starting Ray on this machine\n"


@pytest.mark.parametrize("word", ["HOST:PORT", "auto"])
def test_a_ray_that_was_asked_for_is_named_before_it_is_used(
    word: str, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = word.replace("HOST:PORT", f"127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("RAY_ADDRESS", address)
        with cluster(1):
            assert asked["said"] == f"using the Ray at RAY_ADDRESS={address}\n"
            assert "address" not in asked, "Ray reads the variable itself"


def test_a_temporary_folder_with_too_long_a_name_is_named_before_ray_starts() -> None:
    check_socket_room("/tmp", "TMPDIR")
    with pytest.raises(TrainingError, match=r"found /t+, of 90; set TMPDIR to a shorter one") as error:
        check_socket_room("/" + "t" * 89, "TMPDIR")
    assert "RAY_ADDRESS" not in str(error.value)


def test_bytes_of_the_name_count_not_letters() -> None:
    with pytest.raises(TrainingError, match="of 61"):
        check_socket_room("/" + "ä" * 30, "TMPDIR")


@pytest.mark.parametrize(
    ("set_to", "words"),
    [
        ({"RAY_TMPDIR": "/" + "r" * 89, "TMPDIR": "/tmp"}, r"found /r+, of 90; set RAY_TMPDIR to a shorter"),
        ({"RAY_TMPDIR": "", "TMPDIR": "/" + "t" * 89}, r"found /t+, of 90; set TMPDIR to a shorter"),
        (
            {"RAY_TMPDIR": "/etc/passwd", "TMPDIR": "/tmp"},
            r"a folder at .*; found a file; set RAY_TMPDIR to another",
        ),
        ({"TMPDIR": "/etc/passwd"}, r"a folder at .*; found a file; set TMPDIR to another"),
    ],
)
@pytest.mark.usefixtures("asked")
def test_the_variable_that_was_read_is_the_one_that_is_to_be_changed(
    set_to: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    for name, value in set_to.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BisieveError, match=words), cluster(1):
        pytest.fail("Ray was asked for")


@pytest.mark.usefixtures("asked")
def test_a_node_that_does_not_start_in_time_is_one_line_that_names_its_logs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(**options: Any) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr("ray.init", fail)
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    with pytest.raises(TrainingError) as error, cluster(1):
        pytest.fail("Ray was started")
    assert str(error.value) == (
        "expected a Ray that starts on this machine; found The current node timed out during startup.; "
        "look into /tmp/ray/session_latest/logs"
    )


@pytest.mark.parametrize(
    ("reason", "found"),
    [
        ("Token authentication is enabled but no authentication token was found", "found none;"),
        ("Token authentication is enabled but the authentication token is invalid", "found none, or another"),
    ],
)
def test_a_ray_that_wants_a_token_says_which_variables_hold_it(reason: str, found: str) -> None:
    said = str(token_error("127.0.0.1:6379", reason))
    assert found in said
    assert "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH" in said
    assert "\n" not in said
