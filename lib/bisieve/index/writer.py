"""A written file of ranked rollouts, and what the manifest tells of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bisieve import schema
from bisieve.coded import codes_and_texts
from bisieve.fraction import cut_limits
from bisieve.manifest import CutoffScore, DataFile
from bisieve.parts import write_part
from bisieve.ranking import TieBlock, telling_tie_blocks

REPORTED = (0.05, 0.10, 0.25, 0.50)  # fractions whose cutoff scores every index tells


@dataclass(frozen=True)
class RankedFile:
    """One file of an index's rows, in order."""

    file: DataFile
    tie_blocks: list[TieBlock]  # see `ranking.telling_tie_blocks`
    cutoff_scores: pa.Table  # of schema.CUTOFF_SCORES: where cuts end in it


def write_ranked_file(
    index: str, path: str, rows: pa.Table, rows_per_group: int, rollouts: Mapping[str, int], scope: str
) -> RankedFile:
    """Writes ``rows``, of `schema.INDEX` and with their ``key``, as one file.

    ``rollouts`` gives the usable rollouts of each source.  `StorageError` where it cannot be written.
    """
    file = write_part(index, path, rows, schema.INDEX, rows_per_group)
    return RankedFile(file, telling_tie_blocks(rows), _cutoff_scores(rows, rollouts, scope))


def _cutoff_scores(rows: pa.Table, rollouts: Mapping[str, int], scope: str) -> pa.Table:
    codes, names = codes_and_texts(rows["source"])
    if scope == "source":  # there may be very many others
        rollouts = {name: rollouts[name] for name in names if name in rollouts}
    found = []
    for fraction in REPORTED:
        limits = cut_limits(rollouts, scope, fraction)
        limit = np.array([limits.get(name, 0) for name in names], np.int64)[codes]
        ends = np.flatnonzero(rows["rank"].to_numpy() == limit)
        of = rows["source"].take(pa.array(ends)).cast(pa.string())
        columns = {
            "source": of if scope == "source" else pa.nulls(len(ends), pa.string()),
            "fraction": np.full(len(ends), fraction),
            "rollouts": limit[ends],
            "bis": rows["bis"].to_numpy()[ends],
        }
        found.append(pa.table(columns, schema=schema.CUTOFF_SCORES))
    return pa.concat_tables(found)


def cutoff_scores_by_source(files: Iterable[RankedFile]) -> pa.Table:
    """Those of cuts of one source, by source, then by fraction; none with ``scope`` global."""
    return _together(files).drop_null().sort_by([("source", "ascending"), ("fraction", "ascending")])


def cutoff_scores_over_all(files: Iterable[RankedFile]) -> list[CutoffScore]:
    """Those of cuts over all sources, by fraction; none with ``scope`` source."""
    scores = _together(files)
    over_all = scores.filter(pc.is_null(scores["source"])).drop_columns("source").sort_by("fraction")
    return [CutoffScore(**score) for score in over_all.to_pylist()]


def _together(files: Iterable[RankedFile]) -> pa.Table:
    return pa.concat_tables([schema.CUTOFF_SCORES.empty_table(), *(file.cutoff_scores for file in files)])
