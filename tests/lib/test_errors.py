import pickle

import pytest

from bisieve import errors


@pytest.mark.parametrize("kind", errors.BisieveError.__subclasses__())
def test_an_error_is_one_line_and_crosses_process_borders(kind: type[errors.BisieveError]) -> None:
    error = kind("a thing", "another\nthing", "correct it")
    assert str(error) == "expected a thing; found another thing; correct it"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.exit_code) == (kind, str(error), error.exit_code)


@pytest.mark.parametrize("kind", errors.BisieveError.__subclasses__())
def test_no_error_quotes_the_secret_of_a_url_wherever_it_goes(kind: type[errors.BisieveError]) -> None:
    url = "https://me:planted@host/a?key=planted"
    error = kind(f"an answer from {url}", f"'{url}' closed", f"ask {url} again")
    copy = pickle.loads(pickle.dumps(error))
    for one in (error, copy):
        assert "planted" not in f"{one} {one!r} {one.args}"
        assert str(one).startswith(
            "expected an answer from https://***@host/a?***; found 'https://***@host/a?***'"
        )


def test_an_error_has_no_escape_codes_of_a_terminal() -> None:
    error = errors.TrainingError("an end", "\x1b[36mray::train()\x1b[39m (pid=1)\x07", "run\tit again")
    assert error.args == ("an end", "ray::train() (pid=1)", "run\tit again")
