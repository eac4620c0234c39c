"""Every link of the documentation leads somewhere, every page can be found, and lines fit a screen."""

import re
from pathlib import Path

import pytest
from support.markdown import OTHERS, PAGES, ROOT, Page, page_id

WIDTH = 100


def target(page: Path, link: str) -> tuple[Path, str]:
    place, _, anchor = link.partition("#")
    return ((page.parent / place).resolve() if place else page), anchor


@pytest.mark.parametrize("path", [*PAGES, *OTHERS], ids=page_id)
def test_relative_links_lead_to_files_and_headings(path: Path) -> None:
    broken = []
    for link in (link for link in Page(path).links if "://" not in link):
        place, anchor = target(path, link)
        if not place.exists() or (anchor and anchor not in Page(place).anchors):
            broken.append(link)
    assert broken == []


def test_every_page_is_reached_from_the_map() -> None:
    start = ROOT / "docs/README.md"
    mapped = {target(start, link)[0] for link in Page(start).links if "://" not in link}
    assert [page_id(page) for page in PAGES[1:] if page not in mapped | {start}] == []


@pytest.mark.parametrize("path", [*PAGES, *OTHERS], ids=page_id)
def test_lines_fit_100_columns(path: Path) -> None:
    """All but the rows of tables with four columns or more: with fewer, a list says the same."""
    long = [
        f"{number}: {line}"
        for number, line in enumerate(Page(path).text.splitlines(), 1)
        if len(line) > WIDTH and len(re.findall(r"(?<!\\)\|", line)) < 5
    ]
    assert long == []


def test_links_are_seen_and_a_wrong_anchor_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A *title*: `--dry-run`\n\n[one](#a-title---dry-run) `[no](link)`\n\n```\n# [no](x)\n```\n"
    )
    assert Page(page).links == ["#a-title---dry-run"]
    assert Page(page).anchors == {"a-title---dry-run"}
