"""A report in a real browser: offline, without a complaint, light and dark, on paper and on a phone."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browser import PAPER, PHONE, chromium, not_drawn, opened, too_wide
from support.reported import make_reported

import bisieve
from bisieve.report.html import write_page
from bisieve.report.page import Card, Cards, Column, Page, Section, Step, Table


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    # Of the module: while it runs, its event loop is the one of this thread, and other tests need theirs.
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, score: Callable[..., Any]) -> Path:
    folder = tmp_path_factory.mktemp("report")
    index, images = make_reported(folder, score)
    file = folder / "report.html"
    numbers = bisieve.open_index(index).write_html(str(file), image_root=images)
    (folder / "numbers.json").write_text(json.dumps(numbers))
    return file


@pytest.mark.parametrize(
    ("media", "width"),
    [
        ({"color_scheme": "light"}, 1280),
        ({"color_scheme": "dark"}, 1280),
        ({"media": "print"}, PAPER),
        ({"color_scheme": "light"}, PHONE),
        ({"color_scheme": "dark"}, PHONE),
    ],
    ids=["light", "dark", "paper", "phone", "dark phone"],
)
def test_a_report_opens_without_a_network_and_draws_all_charts(
    browser: Any, report: Path, media: dict[str, str], width: int
) -> None:
    with opened(browser, report, width, **media) as page:
        assert page.locator("figure").count() == 9
        assert not_drawn(page) == []
        assert too_wide(page) <= 0
        assert page.locator("article img").count() > 0
        assert page.eval_on_selector_all("img", "all => all.every(image => image.naturalWidth > 0)")


def test_text_of_a_rollout_is_never_markup(browser: Any, report: Path) -> None:
    with opened(browser, report) as page:
        assert page.title() == "Selection report"
        assert "<script>document.title" in page.locator("article").first.inner_text()
        assert page.locator("article script, article img[onerror]").count() == 0


def test_colours_follow_the_scheme_without_drawing_again(browser: Any, report: Path) -> None:
    colours = []
    with opened(browser, report, color_scheme="light") as page:
        label = page.locator("svg text").first
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            colours.append(label.evaluate("text => getComputedStyle(text).fill"))
    assert colours[0] != colours[1]


def test_a_click_on_a_title_sorts_the_table(browser: Any, report: Path) -> None:
    with opened(browser, report) as page:
        table = page.locator("table.sortable").first
        cells = table.locator("tbody td:first-child")
        assert sorted(cells.all_inner_texts()) == ["adding", "reading"]
        title = table.locator("th button").first
        title.click()
        assert cells.all_inner_texts() == ["adding", "reading"]
        title.click()
        assert cells.all_inner_texts() == ["reading", "adding"]


def test_cells_without_a_number_are_below_all_others_and_the_order_is_told(
    browser: Any, tmp_path: Path
) -> None:
    columns = [Column("name"), Column("value", "number"), Column("interval", "figure")]
    rows = [
        ["a", 2.0, "0.2–0.3"], ["b", float("inf"), "0.1–0.9"], ["c", 1.0, "unknown"], ["d", 3.0, "0.9–1.0"],
    ]  # fmt: skip
    file = tmp_path / "page.html"
    write_page(Page("t", "s", [Section("s", [Table(columns, rows)])]), str(file))
    with opened(browser, file) as page:
        titles, names = page.locator("th button"), page.locator("tbody td:first-child")
        for place, told, expected in (
            (0, "ascending", "abcd"), (0, "descending", "dcba"), (1, "descending", "dacb"),
            (1, "ascending", "bcad"), (2, "descending", "dabc"), (2, "ascending", "cbad"),
        ):  # fmt: skip
            titles.nth(place).click()
            assert "".join(names.all_inner_texts()) == expected
            assert page.locator("th").nth(place).get_attribute("aria-sort") == told


def test_every_source_that_can_be_chosen_has_a_histogram(
    browser: Any, tmp_path: Path, score: Callable[..., Any]
) -> None:
    index, _ = make_reported(tmp_path, score)
    (tmp_path / "corpus/shards/rejects alone.jsonl").write_text('{"image": ""}\n')
    score(tmp_path / "corpus/shards", index)
    bisieve.open_index(index).write_html(str(tmp_path / "page.html"))
    with opened(browser, tmp_path / "page.html") as page:
        source, alpha = page.locator(".vega-bind select").all()
        assert source.locator("option").all_inner_texts() == ["all sources", "adding", "reading"]
        for chosen in (source, alpha):
            for place in range(chosen.locator("option").count()):
                chosen.select_option(index=place)
                page.wait_for_timeout(50)  # a chart that cannot be drawn is a complaint
        assert "rejects alone" in page.locator("table.sortable").first.inner_text()


def test_a_step_that_runs_from_right_to_left_leaves_its_label_alone(browser: Any, tmp_path: Path) -> None:
    label = "12/16"
    steps = [Step(text, 0.75, label) for text in ("left to right", "\u202eoverridden", "\u05d0\u05d1 9")]
    file = tmp_path / "page.html"
    write_page(Page("t", "s", [Section("s", [Cards("c", [Card("t", {}, "w", "q", [], steps)])])]), str(file))
    with opened(browser, file) as page:
        lefts = page.eval_on_selector_all(
            "article li b",
            """labels => labels.map(label => [...label.firstChild.data].map((_, place) => {
                const range = document.createRange();
                range.setStart(label.firstChild, place);
                range.setEnd(label.firstChild, place + 1);
                return range.getBoundingClientRect().left;
            }))""",
        )
    assert lefts == [sorted(each) for each in lefts]
    assert all(len(set(each)) == len(label) for each in lefts)


def test_the_sliders_show_the_numbers_of_their_place(browser: Any, report: Path) -> None:
    points = json.loads((report.parent / "numbers.json").read_text())["what_if"]["points"]
    with opened(browser, report) as page:
        for slider in page.locator(".dials input").all():
            slider.evaluate("input => { input.value = input.max; input.dispatchEvent(new Event('input')); }")
        shown = page.locator(".dials dd").first.inner_text()
    assert points[-1]["fraction"] == 1.0
    assert shown == f"{points[-1]['rollouts']:,}"


def test_the_numbers_and_the_charts_can_be_saved(browser: Any, report: Path) -> None:
    with opened(browser, report) as page:
        with page.expect_download() as numbers:
            page.locator("#save-numbers").click()
        with page.expect_download() as chart:
            page.locator("button.save").first.click()
        found = json.loads(Path(numbers.value.path()).read_text())
        svg = Path(chart.value.path()).read_text()
    assert found == json.loads((report.parent / "numbers.json").read_text())
    assert svg.startswith("<svg")
    assert "var(--" not in svg
