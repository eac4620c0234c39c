from bisieve._text import pluralize


def test_one_is_no_plural() -> None:
    assert [pluralize(number, "step") for number in (0, 1, 2)] == ["0 steps", "1 step", "2 steps"]
