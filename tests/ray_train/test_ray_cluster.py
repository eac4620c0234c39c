"""What a command says of the Ray that it is about to use, before Ray itself says it worse."""

import pytest

from bisieve.errors import TrainingError
from ray_train.cluster import check_socket_room, token_error


def test_a_temporary_folder_with_too_long_a_name_is_named_before_ray_starts() -> None:
    check_socket_room("/tmp")
    with pytest.raises(TrainingError, match=r"found /t+, of 90; set TMPDIR to a shorter one") as error:
        check_socket_room("/" + "t" * 89)
    assert "RAY_ADDRESS" not in str(error.value)


def test_bytes_of_the_name_count_not_letters() -> None:
    with pytest.raises(TrainingError, match="of 61"):
        check_socket_room("/" + "ä" * 30)


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
