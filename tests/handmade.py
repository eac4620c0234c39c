"""Indexes made of a list of rollouts, with no shards and no Spark."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from bisieve import schema
from bisieve.index import Index, open_index
from bisieve.manifest import DataFile, Manifest, Parameters, SourceTotals
from bisieve.parts import write_part
from bisieve.rerank import publish_ranked, rank_in_memory

DEFAULTS = Parameters(0.05, "source", "file", 0, "rollouts", None)


class Made(NamedTuple):
    source: str
    rollout_id: str
    scores: tuple[float, ...]


def make_index(folder: Path, rollouts: Sequence[Made], parameters: Parameters = DEFAULTS) -> Index:
    """An index whose rollouts lie in this order, one behind the other, in one shard a source."""
    unranked = folder / "unranked"
    rows = [_row(place, made) for place, made in enumerate(rollouts)]
    file = write_part(str(unranked), "rows.parquet", pa.Table.from_pylist(rows, schema.INDEX), schema.INDEX)
    shards = write_part(str(unranked), "shards.parquet", schema.SHARDS.empty_table(), schema.SHARDS)
    manifest = _manifest(file, shards, sorted({made.source for made in rollouts}))
    publish_ranked(Index(str(unranked), manifest), parameters, str(folder / "index"), rank_in_memory)
    return open_index(str(folder / "index"))


def _row(place: int, made: Made) -> dict[str, Any]:
    return {
        "source": made.source,
        "rank": 0,
        "rollout_id": made.rollout_id,
        "question_id": f"{place % 3:032x}",
        "bis": 0.0,
        "positive_fraction": 0.0,
        "reliability": 0.0,
        "num_steps": len(made.scores),
        "num_positive": 0,
        "scores": list(made.scores),
        "spans": [{"shard": f"file:///{made.source}.jsonl", "offset": 100 * place, "length": 99}],
    }


def _manifest(file: DataFile, shards: DataFile, sources: list[str]) -> Manifest:
    totals = [SourceTotals(source, 0, 0, 0, 0, 0, 0, {}) for source in sources]
    return Manifest("0" * 64, DEFAULTS, [], shards, 0, 0, totals, [file], [], {}, {})
