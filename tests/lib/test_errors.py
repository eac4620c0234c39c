import pickle

import pytest

from bisieve import errors


@pytest.mark.parametrize("kind", errors.BisieveError.__subclasses__())
def test_an_error_is_one_line_and_crosses_process_borders(kind: type[errors.BisieveError]) -> None:
    error = kind("a thing", "another\nthing", "mend it")
    assert str(error) == "expected a thing; found another thing; mend it"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.exit_code) == (kind, str(error), error.exit_code)
