"""Charts of an index fit where a page shows them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.reported import make_reported

from bisieve.index.reader import open_index
from bisieve.report.collect import collect
from bisieve.report.index_charts import score_chart

OF_A_PHONE, OF_A_CHARACTER = 296, 5.8  # pixels: the width of the plot, and at size 11


@pytest.mark.parametrize("alpha", [0.0, 0.05, 0.2, 1.0])
def test_labels_beside_lines_do_not_make_the_plot_narrower(
    tmp_path: Path, score: Callable[..., Any], alpha: float
) -> None:
    index, _ = make_reported(tmp_path, score)
    counts = collect(open_index(index), index, 0.25, {"alpha": alpha}).counts
    chart = score_chart(counts, has_alpha=True)
    labels = chart.spec["layer"][2]
    assert labels["mark"]["align"] == {"expr": f"datum.at > {counts.most / 2} ? 'right' : 'left'"}
    for each in labels["data"]["values"]:
        place = each["at"] / counts.most
        assert len(each["label"]) * OF_A_CHARACTER < OF_A_PHONE * max(place, 1 - place)
    assert f"{counts.at_alpha.sum()} rollouts have a BIS of exactly α; " in chart.note
