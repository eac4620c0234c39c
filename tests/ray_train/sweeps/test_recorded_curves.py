"""The answer is right about recorded runs of which it was shown only the small fractions.

The runs are those of the study, which has three corpora; there is one curve a corpus, regime and budget.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ray_train.sweeps.answer import Cell, answers

STUDY = Path(__file__).parents[2] / "bench/results/study.parquet"
METRIC = "auc"
AVAILABLE = 1_000_000  # of which a cell has its fraction: only shares matter


def recorded() -> dict[tuple[Any, ...], dict[float, list[float]]]:
    """Return by curve and fraction the results of random selections, and at 1 those of all the data."""
    curves: dict[tuple[Any, ...], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in pq.read_table(STUDY).to_pylist():
        usual = row["objective"] == "hard" and not row["base"] and not row["label_threshold"]
        if usual and (row["strategy"] == "random" or row["fraction"] == 1):
            curves[row["regime"], row["budget"], row["corpus"]][row["fraction"]].append(row[METRIC])
    return curves


@pytest.mark.parametrize("most", [0.25, 0.5])
def test_intervals_cover_what_was_hidden(most: float) -> None:
    """Up to the noise of the hidden mean itself, in nine of ten curves."""
    covered = []
    for curve in recorded().values():
        small = {fraction: values for fraction, values in curve.items() if fraction <= most}
        if len(small) < 3 or 1.0 not in curve or max(map(len, small.values())) < 2:
            continue
        cells = [
            Cell("random", "", "hard", fraction, int(AVAILABLE * fraction), tuple(values))
            for fraction, values in small.items()
        ]
        (found,) = answers(cells, AVAILABLE, 0.01, 0.95)
        if found.full is None:
            continue  # refused, with its reason
        hidden, spread = float(np.mean(curve[1.0])), [np.std(each, ddof=1) for each in small.values()]
        noise = 2 * float(np.mean(spread)) / len(curve[1.0]) ** 0.5
        covered.append(found.full.low - noise <= hidden <= found.full.high + noise)
    assert len(covered) >= 3
    assert np.mean(covered) >= 0.9 or len(covered) - sum(covered) <= 1
