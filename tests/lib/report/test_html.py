"""A page is one file: escaped, complete, and safe even if something were not escaped."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from support.reported import ATTACK

from bisieve.report import html
from bisieve.report.html import plain, render, write_page
from bisieve.report.page import (
    Block,
    Card,
    Cards,
    Chart,
    Column,
    Dial,
    Dials,
    Finding,
    Findings,
    Note,
    Page,
    Section,
    Step,
    Table,
    Tile,
    Tiles,
    short,
)

VENDOR = Path(html.__file__).parent / "vendor"
BLOCKS: list[Block] = [
    Findings([Finding("note", ATTACK, ATTACK)]),
    Note(ATTACK),
    Tiles([Tile(ATTACK, ATTACK, ATTACK, ATTACK)]),
    Chart(ATTACK, {"data": {"values": [{"name": ATTACK}]}, "mark": "bar"}, ATTACK),
    Table([Column(ATTACK)], [[ATTACK], [None], [0.5]], ATTACK),
    Dials([Dial(ATTACK, [ATTACK])], {ATTACK: [ATTACK]}, ATTACK),
    Cards(ATTACK, [Card(ATTACK, {ATTACK: ATTACK}, ATTACK, ATTACK, [], [Step(ATTACK, 0.5, ATTACK, ATTACK)])]),
]


def page(*blocks: Block, text: str = "title") -> Page:
    return Page(text, text, [Section(text, blocks, text)], {"text": text}, text)


def test_text_is_escaped_in_every_block() -> None:
    text = render(page(*BLOCKS, text=ATTACK))
    assert "<img src=x" not in text
    assert "<script>document.title" not in text
    assert "\\u003cscript\\u003edocument.title" in text  # in JSON
    assert "&lt;script&gt;document.title" in text  # in text


def test_all_numbers_are_in_the_page_as_json() -> None:
    text = render(Page("t", "s", [], {"text": ATTACK, "value": np.float64(0.25), "none": float("nan")}))
    found = re.search(r'<script type="application/json" id="numbers">(.*?)</script>', text, re.DOTALL)
    assert found
    assert json.loads(found[1]) == {"text": ATTACK, "value": 0.25, "none": None}


def test_only_the_scripts_of_the_page_may_run_and_nothing_is_loaded() -> None:
    text = render(page(*BLOCKS))
    found = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert found
    policy = found[1].replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert policy.count("'sha256-") == len(re.findall("<script>", text)) == 4
    markup = re.sub("<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r'(src|href)="(?!data:|#)', markup)


def test_the_vendored_files_are_those_that_are_named_with_their_hash() -> None:
    named = re.findall(
        r"\| `([^`]+)` \| `[^`]+@[\d.]+` \| `([0-9a-f]{64})` \|", (VENDOR / "README.md").read_text()
    )
    stored = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.glob("*.js")}
    assert dict(named) == stored


def test_cells_are_written_by_the_form_of_their_column() -> None:
    columns = [Column("a"), Column("b", "count"), Column("c", "percent"), Column("d", "number")]
    text = render(page(Table(columns, [["x", 12345, 0.123, 0.5], [None, None, None, float("nan")]])))
    for cell in (">x<", ">12,345<", ">12.3%<", ">0.5000<"):
        assert cell in text
    assert text.count(">–<") == 4


def test_a_cell_without_a_number_is_sorted_below_all_numbers() -> None:
    text = render(page(Table([Column("a", "number")], [[0.0], [None], [float("inf")], [float("nan")]])))
    assert re.findall('data-value="([^"]*)"', text) == ["0.0", "", "", ""]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (1e-7, "< 0.001"), (0.25, "0.25"), (999.4, "999"), (999.6, "1 k"), (1234, "1.23 k"),
        (999_400, "999 k"), (999_600, "1 M"), (5e9, "5 G"),
    ],
)  # fmt: skip
def test_large_numbers_have_three_digits_and_a_unit(value: float, text: str) -> None:
    assert short(value) == text


def test_numbers_become_json_types() -> None:
    given = {1: np.arange(2), "b": (np.float32(0.5), np.True_), "c": [float("inf"), "text", None]}
    assert plain(given) == {"1": [0, 1], "b": [0.5, True], "c": [None, "text", None]}


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_page(page(Note("first")), str(tmp_path / "page.html"))
    broken = page(Chart("chart", {"data": object()}))
    with pytest.raises(TypeError):
        write_page(broken, str(tmp_path / "page.html"))
    assert "first" in (tmp_path / "page.html").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
