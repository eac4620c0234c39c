from bisieve._text import Table, clauses, one_line, pluralize, rounded

CLAUSE = "this clause is forty columns wide or more"


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


def test_a_line_that_is_too_wide_goes_on_between_clauses_which_stay_whole() -> None:
    short = f"{CLAUSE}; {CLAUSE}."
    assert clauses(short) == short
    assert clauses(f"{short} {CLAUSE}; {CLAUSE}; and the end\nbelow") == (
        f"{short}\n    {CLAUSE}; {CLAUSE};\n    and the end\nbelow"
    )


def test_a_clause_that_is_too_wide_goes_on_behind_a_comma_or_a_colon() -> None:
    assert clauses(f"found: {CLAUSE}, {CLAUSE}, {CLAUSE}; the end") == (
        f"found: {CLAUSE}, {CLAUSE},\n    {CLAUSE};\n    the end"
    )
    assert clauses(f"a number: {'word ' * 18}ends") == f"a number:\n    {'word ' * 18}ends"


def test_paths_and_what_has_no_punctuation_do_not_make_a_line_go_on() -> None:
    with_paths = f"index /data/{'x' * 90}: written; 9 rollouts, page: s3://bucket/{'y' * 90}"
    assert clauses(with_paths) == with_paths
    long = " and ".join([CLAUSE] * 3)
    assert clauses(long) == long


def test_the_columns_of_a_wide_table_are_one_space_apart() -> None:
    head = ["name", *(f"column {number}" for number in range(10))]
    assert str(Table(head[:10], [])).startswith("name  column 0  column 1  ")
    assert len(str(Table(head, []))) == 94
    assert str(Table([*head, "more"], [])).startswith("name column 0 column 1 ")


def test_what_an_error_says_is_one_line_of_at_most_500_characters_or_its_type() -> None:
    assert one_line(ValueError("no\n  such\tname ")) == "no such name"
    assert one_line(ValueError("a" * 600)) == "a" * 500
    assert one_line(ValueError()) == "ValueError"
    assert one_line(" \n") == ""
