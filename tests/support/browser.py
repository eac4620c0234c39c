"""Chromium, without a network: what a page shows there, and what is wrong with it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
DESK, PAPER, PHONE = 1280, 720, 390  # pixels wide


@contextmanager
def chromium() -> Iterator[Any]:
    """A running browser; `infra/browser.sh` installs it."""
    from playwright.sync_api import sync_playwright

    names = [os.environ.get("CHROMIUM", ""), *NAMES]
    path = next((found for name in names if name and (found := shutil.which(name))), None)
    assert path, "no Chromium: sh infra/browser.sh installs it, or says how"
    with sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.getuid() == 0 else []
        yield playwright.chromium.launch(executable_path=path, args=options)


@contextmanager
def opened(browser: Any, file: Path, width: int = DESK, **media: str) -> Iterator[Any]:
    """A page of a file, with all its charts drawn; fails if the browser has a complaint about it."""
    with visited(browser, file.as_uri(), "html[data-drawn]", width, offline=True, **media) as page:
        yield page


@contextmanager
def visited(
    browser: Any,
    url: str,
    ready: str,
    width: int = DESK,
    offline: bool = False,
    refused: int = 0,
    **media: str,
) -> Iterator[Any]:
    """A page once it has an element ``ready``; fails if the browser has a complaint about it.

    A request that is refused with the status ``refused`` is none.
    """
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=offline)
    page, complaints = context.new_page(), []
    page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.emulate_media(**media)
    page.goto(url)
    page.wait_for_selector(ready, state="attached")
    yield page
    faults = [each for each in complaints if not refused or f"status of {refused}" not in each]
    assert faults == [], faults
    context.close()


def too_wide(page: Any) -> int:
    """By how many pixels a page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


def not_drawn(page: Any) -> list[str]:
    """The titles of the charts that show nothing."""
    found: list[str] = page.eval_on_selector_all(
        "figure",
        """figures => figures.filter(figure => {
            const svg = figure.querySelector("svg"), box = svg && svg.getBoundingClientRect();
            return !svg || box.width < 100 || box.height < 40 || !svg.querySelector("path, rect, text");
        }).map(figure => figure.querySelector("figcaption").textContent)""",
    )
    return found
