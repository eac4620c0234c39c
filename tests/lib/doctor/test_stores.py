"""What a run will ask of a store, asked of a real one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faulty_proxy import FaultyProxy

from bisieve.doctor import stores
from bisieve.doctor.checks import Check, DoctorTargets
from bisieve.io.storage import list_files, write_bytes
from bisieve.io.urls import canonical


@pytest.fixture(params=["disk", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "disk":
        return canonical(str(tmp_path))
    return f"{request.getfixturevalue('s3')}/{tmp_path.name}"


def states(checks: Iterator[Check]) -> dict[str, str]:
    return {check.name: check.state for check in checks}


def test_an_input_is_listed_and_a_range_of_it_is_read(folder: str) -> None:
    write_bytes(f"{folder}/in/a.jsonl", b"0123456789")
    listed, read = stores.examine(DoctorTargets(inputs=[f"{folder}/in"]))
    assert (listed.state, listed.found) == ("ok", f"1 file, 0.0 MB at {folder}/in")
    assert (read.state, read.found) == ("ok", f"5 bytes from 5 on, of {folder}/in/a.jsonl")


def test_an_input_that_is_not_there_fails_once_with_its_url(folder: str) -> None:
    (listed,) = stores.examine(DoctorTargets(inputs=[f"{folder}/nowhere"]))
    assert listed.state == "failed"
    assert f"{folder}/nowhere" in listed.found


def test_an_input_without_a_byte_is_a_warning(folder: str) -> None:
    write_bytes(f"{folder}/in/a.jsonl", b"")
    assert states(stores.examine(DoctorTargets(inputs=[f"{folder}/in"]))) == {
        "list": "ok",
        "read a range": "warning",
    }


def test_an_output_is_written_to_and_left_as_it_was(folder: str) -> None:
    write_bytes(f"{folder}/out/kept", b"x")
    found = states(stores.examine(DoctorTargets(outputs=[f"{folder}/out"])))
    assert found == {"write": "ok", "overwrite": "ok", "clock": "ok"}
    assert [file.url for file in list_files(f"{folder}/out")] == [f"{folder}/out/kept"]


def test_a_folder_that_was_not_there_is_gone_again(tmp_path: Path) -> None:
    found = states(stores.examine(DoctorTargets(outputs=[f"{tmp_path}/new/models"])))
    assert found["write"] == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_no_file_fails_with_its_url() -> None:
    (written,) = stores.examine(DoctorTargets(outputs=["/proc/nowhere"]))
    assert written.state == "failed"
    assert "/proc/nowhere" in written.found


def test_wrong_credentials_fail(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        assert states(stores.examine(DoctorTargets([s3], [s3]))) == {"list": "failed", "write": "failed"}
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


def test_a_store_that_serves_half_of_a_range_fails(s3: str, faulty_s3: FaultyProxy) -> None:
    write_bytes(f"{s3}/doctor/a.jsonl", bytes(1000))
    faulty_s3.harm(1, ["short"], only=lambda method, path: method == "GET" and path.endswith("a.jsonl"))
    listed, read = stores.examine(DoctorTargets(inputs=[f"{s3}/doctor"]))
    assert (listed.state, read.state) == ("ok", "failed")
    assert "32 bytes of the 64 asked for" in read.found


def test_a_store_that_ignores_conditions_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A mock: the server at hand knows conditional writes.
    monkeypatch.setattr(stores, "replace_pointer", lambda old, data: write_bytes(old.url, data))
    assert states(stores.examine(DoctorTargets(outputs=[str(tmp_path)])))["overwrite"] == "failed"


def test_a_clock_that_is_minutes_off_fails() -> None:
    assert stores.skew(-3).state == "ok"
    ahead = stores.skew(400)
    assert (ahead.state, ahead.found) == ("failed", "the store's is 400 s ahead of ours")
