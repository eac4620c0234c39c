"""A written file of ranked rollouts, and what the manifest tells of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from bisieve import schema
from bisieve.coded import codes_and_texts
from bisieve.fraction import cut_limits
from bisieve.manifest import CutScore, DataFile
from bisieve.parts import write_part
from bisieve.ranking import TieBlock, telling_tie_blocks

REPORTED = (0.05, 0.10, 0.25, 0.50)  # fractions whose cut scores every index tells


@dataclass(frozen=True)
class RankedFile:
    """One file of an index's rows, in order."""

    file: DataFile
    tie_blocks: list[TieBlock]  # see `ranking.telling_tie_blocks`
    cut_scores: list[CutScore]  # of the cuts that end in it


def write_ranked_file(
    index: str, path: str, rows: pa.Table, rows_per_group: int, rollouts: Mapping[str, int], scope: str
) -> RankedFile:
    """Writes ``rows``, of `schema.INDEX` and with their ``key``, as one file.

    ``rollouts`` gives the usable rollouts of each source.  `StorageError` where it cannot be written.
    """
    file = write_part(index, path, rows, schema.INDEX, rows_per_group)
    return RankedFile(file, telling_tie_blocks(rows), _cut_scores(rows, rollouts, scope))


def _cut_scores(rows: pa.Table, rollouts: Mapping[str, int], scope: str) -> list[CutScore]:
    place, names = codes_and_texts(rows["source"])
    rank, bis = rows["rank"].to_numpy(), rows["bis"].to_numpy()
    found = []
    for fraction in REPORTED:
        limits = cut_limits(rollouts, scope, fraction)
        limit = np.array([limits.get(name, 0) for name in names], np.int64)[place]
        for row in np.flatnonzero(rank == limit).tolist():
            of = names[place[row]] if scope == "source" else None
            found.append(CutScore(fraction, of, int(limit[row]), float(bis[row])))
    return found


def all_cut_scores(files: Iterable[RankedFile]) -> list[CutScore]:
    """Those of all files, by source, then by fraction."""
    found = [score for file in files for score in file.cut_scores]
    return sorted(found, key=lambda score: (score.source or "", score.fraction))
