"""The page of `bisieve explore` in a real browser, on a small index and on one of a million rollouts."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.browser import PHONE, chromium, too_wide, visited
from support.explored import exploring
from support.million import make_many
from support.reported import make_reported

import bisieve

LOADED = "html[data-loaded]"
Visit = Callable[..., AbstractContextManager[Any]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    # Of the module: while it runs, its event loop is the one of this thread, and other tests need theirs.
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, score: Callable[..., Any]) -> tuple[str, str]:
    return make_reported(tmp_path_factory.mktemp("corpus"), score)


@pytest.fixture
def exclude(tmp_path: Path) -> Path:
    return tmp_path / "exclude.txt"


@pytest.fixture
def visit(browser: Any, index: tuple[str, str], exclude: Path, tmp_path: Path) -> Visit:
    @contextmanager
    def visiting(width: int = 1280, **options: Any) -> Iterator[Any]:
        words = ["--image-root", index[1], "--exclude", str(exclude)]
        with (
            exploring(index[0], *words, log=tmp_path / "log") as url,
            visited(browser, url, LOADED, width, **options) as page,
        ):
            yield page

    return visiting


def rows(page: Any) -> Any:
    return page.locator("#rollouts tbody tr")


def after(page: Any, act: Callable[[], Any]) -> None:
    """Act, and wait until the table is loaded again."""
    was = page.locator("html").get_attribute("data-loaded")
    act()
    page.wait_for_selector(f"html:not([data-loaded='{was}'])", state="attached")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, PHONE])
def test_the_page_opens_as_wide_as_the_window_in_light_and_dark(
    visit: Visit, scheme: str, width: int
) -> None:
    with visit(width, color_scheme=scheme) as page:
        assert rows(page).count() == 50
        assert too_wide(page) <= 0
        ink, back = page.evaluate(
            "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        )
        assert (ink, back) == (
            ("rgb(28, 36, 48)", "rgb(255, 255, 255)")
            if scheme == "light"
            else ("rgb(232, 236, 241)", "rgb(18, 22, 28)")
        )


def test_text_of_the_corpus_is_never_markup(visit: Visit) -> None:
    with visit() as page:
        rows(page).first.click()
        page.wait_for_selector("#steps li")
        assert page.title() == "Explore rollouts"
        assert "<script>document.title" in page.locator("#question").inner_text()
        assert page.locator("dialog script, dialog img[onerror], main script, main img").count() == 0
        assert page.locator("#rejects tbody tr").count() == 4


def test_a_rollout_opens_with_its_image_its_steps_and_the_others_of_its_question(visit: Visit) -> None:
    with visit() as page:
        rows(page).first.click()
        page.wait_for_selector("#pictures img")
        assert page.eval_on_selector("#pictures img", "image => image.naturalWidth > 0")
        assert page.locator("#why").inner_text().startswith("kept: rank 1, of source adding")
        colours = page.eval_on_selector_all(
            "#steps li", "all => all.map(step => getComputedStyle(step).borderLeftColor)"
        )
        assert len(set(colours)) > 1
        others = page.locator("#others tbody tr")
        assert others.count() == 3
        title = page.locator("#rollout-title").inner_text()
        others.first.click()
        page.wait_for_function(
            "was => document.querySelector('#rollout-title').textContent !== was", arg=title
        )
        page.keyboard.press("Escape")
        assert not page.locator("#rollout").is_visible()


def test_filters_and_the_order_follow_the_reader(visit: Visit) -> None:
    with visit() as page:
        after(page, lambda: page.select_option("#filters [name=source]", "reading"))
        page.fill("#filters [name=bis_min]", "0.1")
        after(page, lambda: page.locator("#filters button", has_text="Filter").click())
        assert set(rows(page).locator("td:nth-child(2)").all_inner_texts()) == {"reading"}
        after(page, lambda: page.locator("th button", has_text="BIS").click())
        found = [float(text) for text in rows(page).locator("td:nth-child(5)").all_inner_texts()]
        assert found == sorted(found, reverse=True)
        assert min(found) >= 0.1
        assert page.locator("th[aria-sort=descending]").inner_text() == "BIS"
        after(page, lambda: page.locator("#clear").click())
        assert "80 rollouts pass" in page.locator("#counts").inner_text()


def test_a_wrong_filter_is_told_and_the_table_stays(visit: Visit) -> None:
    with visit(refused=400) as page:
        page.fill("#filters [name=bis_min]", "x")
        page.keyboard.press("Enter")
        page.wait_for_selector("#status.problem")
        assert "expected a number as bis_min; found x" in page.locator("#status").inner_text()
        assert rows(page).count() == 50


def test_what_is_typed_has_no_effect_before_it_is_asked_for(visit: Visit, exclude: Path) -> None:
    with visit() as page:
        page.fill("#filters [name=bis_min]", "0.9")
        after(page, lambda: page.locator("#next").click())
        assert "80 rollouts pass" in page.locator("#counts").inner_text()
        after(page, lambda: page.locator("#mark-all").click())
        assert len(exclude.read_text().splitlines()) == 80 - _repeated(page)


def test_a_page_that_has_no_rollouts_any_more_is_followed_by_the_last_one(visit: Visit) -> None:
    with visit() as page:
        after(page, lambda: page.locator("#mark-all").click())
        after(page, lambda: page.select_option("#filters [name=selected]", "marked"))
        after(page, lambda: page.locator("#next").click())
        assert page.locator("#place").inner_text() == "51 to 80 of 80"
        after(page, lambda: page.locator("#unmark-all").click())
        assert page.locator("#place").inner_text() == "none"
        assert page.locator("#previous").is_disabled()


def test_a_marked_rollout_is_marked_wherever_it_is_opened_from(visit: Visit) -> None:
    with visit() as page:
        marked = rows(page).first
        title = f"{marked.locator('td:nth-child(2)').inner_text()}, rank 1 of 40"
        marked.locator("input").click()
        page.wait_for_selector("tr.marked")
        marked.click()
        page.wait_for_selector("dialog[open] #others tbody tr")
        page.locator("#others tbody tr").first.click()
        page.wait_for_function(
            "was => document.querySelector('#rollout-title').textContent !== was", arg=title
        )
        assert page.locator("#mark").inner_text() == "Leave out"
        first = page.locator("td:nth-child(2)", has_text=re.compile("^1$"))
        page.locator("#others tbody tr").filter(has=first).click()
        page.wait_for_function(
            "was => document.querySelector('#rollout-title').textContent === was", arg=title
        )
        assert page.locator("#mark").inner_text() == "Keep in"


def test_the_selection_moves(visit: Visit, index: tuple[str, str]) -> None:
    with visit() as page:
        assert (
            page.locator("#moved")
            .inner_text()
            .startswith("20 of 80 kept by bis, α 0.05; 0 entered and 0 left")
        )
        page.select_option("#selection [name=strategy]", "random")
        after(page, lambda: page.locator("#selection button", has_text="Show").click())
        first, now = (
            {tuple(span.values()) for row in chosen.table["spans"].to_pylist() for span in row}
            for chosen in (
                bisieve.open_index(index[0]).select(0.25),
                bisieve.open_index(index[0]).select(0.25, strategy="random"),
            )
        )
        moved = f"{len(now - first)} entered and {len(first - now)} left since the start"
        assert moved in page.locator("#moved").inner_text()
        after(page, lambda: page.select_option("#filters [name=selected]", "entered"))
        assert rows(page).count() == len(now - first)
        after(page, lambda: page.locator("#at-first").click())
        assert rows(page).count() == 0
        after(page, lambda: page.fill("#selection [name=fraction]", "50"))
        moved = page.locator("#moved").inner_text()
        assert moved.startswith("40 of 80 kept by bis, α 0.05; 20 entered and 0 left")
        assert page.locator("#share").inner_text() == "50 %"


def test_a_strategy_without_alpha_is_shown_whatever_the_field_has(visit: Visit) -> None:
    with visit() as page:
        page.fill("#selection [name=alpha]", "0.2")
        after(page, lambda: page.locator("#selection button", has_text="Show").click())
        assert "kept by bis, α 0.2;" in page.locator("#moved").inner_text()
        page.select_option("#selection [name=strategy]", "random")
        assert page.locator("#selection [name=alpha]").is_disabled()
        assert page.locator("#selection [name=ties]").is_disabled()
        after(page, lambda: page.locator("#selection button", has_text="Show").click())
        assert "kept by random;" in page.locator("#moved").inner_text()
        page.select_option("#selection [name=strategy]", "bis")
        assert page.locator("#selection [name=alpha]").input_value() == "0.2"
        after(page, lambda: page.locator("#selection button", has_text="Show").click())
        assert "kept by bis, α 0.2;" in page.locator("#moved").inner_text()


def test_all_is_reached_by_the_keyboard_and_marks_are_in_the_file(visit: Visit, exclude: Path) -> None:
    with visit() as page:
        after(page, lambda: page.keyboard.press("n"))
        assert page.locator("#place").inner_text() == "51 to 80 of 80"
        after(page, lambda: page.keyboard.press("p"))
        page.keyboard.press("j")
        assert page.evaluate("document.activeElement.dataset.place") == "1"
        page.keyboard.press("x")
        page.wait_for_selector("tr.marked")
        shown = rows(page).nth(1).locator("td:nth-child(11)").inner_text()
        assert exclude.read_text() == f"{shown}\n"
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog[open] #mark")
        assert page.locator("#mark").inner_text() == "Keep in"
        page.keyboard.press("Escape")
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.name") == "text"
        with page.expect_download() as ids:
            page.locator("#ids").click()
        assert len(Path(ids.value.path()).read_text().splitlines()) == 80 - _repeated(page)
        after(page, lambda: page.locator("#mark-all").click())
        assert len(exclude.read_text().splitlines()) == 80 - _repeated(page)
        after(page, lambda: page.locator("#unmark-all").click())
        assert exclude.read_text() == ""


def _repeated(page: Any) -> int:
    """How many rollouts have an id that an earlier one has, too."""
    found: list[str] = []
    for first in (0, 50):
        answer = page.evaluate(f"fetch('rollouts?first={first}').then(found => found.json())")
        found += [row["rollout_id"] for row in answer["rows"]]
    return len(found) - len(set(found))


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Takes about ten seconds: its shards have 300 MB."""
    return make_many(tmp_path_factory.mktemp("million"), 1_000_000)


@pytest.mark.slow  # makes a million rollouts
def test_a_million_rollouts_are_filtered_sorted_and_opened(
    browser: Any, million: tuple[str, str], tmp_path: Path
) -> None:
    with (
        exploring(million[0], "--image-root", million[1], log=tmp_path / "log") as url,
        visited(browser, url, LOADED) as page,
    ):
        assert "1,000,000 rollouts pass: 250,000 kept" in page.locator("#counts").inner_text()
        after(page, lambda: page.locator("th button", has_text="BIS").click())
        best = float(rows(page).first.locator("td:nth-child(5)").inner_text())
        after(page, lambda: page.select_option("#filters [name=kind]", "mixed"))
        page.fill("#filters [name=text]", "reading-1234")
        after(page, lambda: page.keyboard.press("Enter"))
        assert set(rows(page).locator("td:nth-child(2)").all_inner_texts()) == {"reading"}
        assert 0 < float(rows(page).first.locator("td:nth-child(5)").inner_text()) <= best
        rows(page).first.click()
        page.wait_for_selector("#pictures img")
        assert page.locator("#others tbody tr").count() == 7
