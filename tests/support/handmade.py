"""Indexes made of a list of rollouts, with no Spark."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from bisieve import schemas
from bisieve.index.manifest import ROWS_VERSION, Manifest, fingerprint, publish, version_folder
from bisieve.index.reader import Index, open_index
from bisieve.index.writer import write_file_list, write_part, write_ranked_file, write_source_list
from bisieve.io.conditional import read_pointer
from bisieve.io.storage import FileInfo
from bisieve.local.engine import local_engine
from bisieve.pipeline.rank import rank_index
from bisieve.records.options import Parameters
from bisieve.scan.chunks import Totals
from bisieve.schemas import MANIFEST

DEFAULTS = Parameters(0.05, "source", "file", 0)


class Made(NamedTuple):
    source: str
    rollout_id: str
    scores: tuple[float, ...]


def make_index(folder: Path, rollouts: Sequence[Made], parameters: Parameters = DEFAULTS) -> Index:
    """An index whose rollouts lie in this order, one behind the other, in one shard a source; no shard is."""
    rows = [_row(place, made) for place, made in enumerate(rollouts)]
    unranked = publish_rows(str(folder / "unranked"), rows, [], [])
    rank_index(local_engine, unranked, parameters, str(folder / "index"))
    return open_index(str(folder / "index"))


def publish_rows(
    url: str, rows: Sequence[dict[str, Any]], inputs: list[str], shards: Sequence[FileInfo]
) -> Index:
    """Publishes ``rows``, of `schemas.INDEX` and already in order, as an index of ``shards`` of rollouts."""
    known = [{"url": file.url, "size": file.size, "etag": file.etag, "layout": "rollouts"} for file in shards]
    name = fingerprint(DEFAULTS, shards)
    folder = version_folder(name)
    counts = Counter(row["source"] for row in rows)
    table = pa.Table.from_pylist(rows, schemas.INDEX)
    ranked = write_ranked_file(
        url, f"{folder}/rows.parquet", table.append_column("key", table["bis"]), 16_384, counts, "source"
    )
    totals = Totals({name: [count, 0, 0, 0, 0] for name, count in counts.items()})
    manifest = Manifest(
        fingerprint=name,
        parameters=DEFAULTS,
        inputs=inputs,
        rollouts=len(rows),
        rejected={},
        examples={},
        shard_bytes=sum(file.size for file in shards),
        file_bytes=ranked.file.bytes,
        shards=write_part(
            url, f"{folder}/shards.parquet", pa.Table.from_pylist(known, schemas.SHARDS), schemas.SHARDS
        ),
        sources=write_source_list(url, folder, totals, [ranked]),
        files=write_file_list(url, folder, [ranked.file], []),
        software={},
        rows_version=ROWS_VERSION,
    )
    publish(read_pointer(f"{url}/{MANIFEST}"), url, manifest)
    return open_index(url)


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
