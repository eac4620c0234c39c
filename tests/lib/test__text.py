from bisieve._text import pluralize, rounded


def test_one_is_no_plural() -> None:
    assert [pluralize(number, "step") for number in (0, 1, 2)] == ["0 steps", "1 step", "2 steps"]


def test_an_estimate_has_three_digits_and_separators() -> None:
    estimates = {
        205_432: "205,000",
        7_612_345_678: "7,610,000,000",
        99.96: "100",
        27.48: "27.5",
        0.0123: "0.0123",
    }
    assert {number: rounded(number) for number in estimates} == estimates
