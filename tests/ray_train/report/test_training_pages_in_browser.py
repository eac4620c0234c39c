"""The pages of a run, of an evaluation and of a sweep in a real browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browser import DESK, PAPER, PHONE, chromium, not_drawn, opened, too_wide
from support.evaluated import write_evaluated
from support.swept import CELLS, write_sweep
from support.tracked import write_run

from bisieve.report.html import write_page
from ray_train.report import metrics, run, sweep
from ray_train.sweeps.answer import Cell


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:  # of the module, as in the tests of the other report
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    evaluated, images = write_evaluated(folder / "evaluated")
    write_page(run.page(write_run(folder / "model")), str(folder / "run.html"))
    write_page(metrics.page(evaluated, images), str(folder / "metrics.html"))
    soft = [
        Cell(*of, (0.8, 0.81)) for of in (("random", "", "soft", 0.1, 1200), ("all", "", "soft", 1.0, 12_000))
    ]
    cells = [*CELLS, *soft, Cell("all", "", "beta-binomial", 1.0, 12_000, (0.8, 0.81))]
    write_page(sweep.page(write_sweep(folder / "sweep", cells)), str(folder / "sweep.html"))
    return {name: folder / f"{name}.html" for name in ("run", "metrics", "sweep")}


@pytest.mark.parametrize(("name", "charts"), [("run", 8), ("metrics", 8), ("sweep", 2)])
@pytest.mark.parametrize(
    ("media", "width"),
    [({"color_scheme": "light"}, DESK), ({"color_scheme": "dark"}, PHONE), ({"media": "print"}, PAPER)],
    ids=["light", "dark phone", "paper"],
)
def test_a_page_opens_without_a_network_and_draws_all_charts(
    browser: Any, pages: dict[str, Path], name: str, charts: int, media: dict[str, str], width: int
) -> None:
    with opened(browser, pages[name], width, **media) as page:
        assert page.locator("figure").count() == charts
        assert not_drawn(page) == []
        assert too_wide(page) <= 0
        assert page.title() in ("Training report", "Evaluation report", "Sweep report")
