"""Where a selection ends, and how many of its rollouts are there by the rule for ties alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import reference

from bisieve.errors import UsageError
from bisieve.index import writer
from bisieve.index.cutoffs import cutoff_ties
from bisieve.index.reader import open_index
from bisieve.ranking.strategies import selection_limits


@pytest.mark.parametrize("scope", ["source", "global"])
def test_ties_are_counted_as_in_the_whole_table(
    scope: str, score: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference.write_random_corpus(tmp_path / "corpus", seed=5, sizes={"big": 250, "small": 7, "one": 1})
    monkeypatch.setattr(writer, "ROWS_PER_FILE", 60)
    monkeypatch.setattr(writer, "ROWS_PER_GROUP", 16)
    score(tmp_path / "corpus", tmp_path / "index", scope=scope)
    index = open_index(str(tmp_path / "index"))
    rows = pa.concat_tables([pq.read_table(tmp_path / "index" / file.path) for file in index.files])
    seen = 0
    for fraction in (0.01, 0.05, 0.1, 0.25, 0.3, 0.5, 0.9, 1.0):
        found = cutoff_ties(index, fraction)
        limits = selection_limits(index.rollouts_by_source, scope, fraction)
        source, rank, bis = (rows[name].to_numpy() for name in ("source", "rank", "bis"))
        kept = rank <= np.array([limits[name] for name in source])
        selected = tied = left_out = 0
        groups = [np.ones(len(bis), bool)] if scope == "global" else [source == name for name in limits]
        for group in groups:
            selected += int((group & kept).sum())
            at = group & (bis == bis[group & kept].min())
            if (at & ~kept).any():
                tied += int((at & kept).sum())
                left_out += int((at & ~kept).sum())
        assert (found.selected, found.tied, found.left_out) == (selected, tied, left_out), fraction
        seen += tied
    assert seen > 20
    with pytest.raises(UsageError):
        cutoff_ties(index, 1.5)
