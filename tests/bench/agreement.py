"""Whether two results are the same ranking: a contender's time counts only then."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

TOLERANCE = 1e-12  # of BIS: tools may add scores up in another order
_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("rank", pa.int64()),
        ("bis", pa.float64()),
        ("scores", pa.list_(pa.float64())),
    ]
)


def read_result(folder: Path) -> pa.Table:
    """Source, rank, BIS and scores that a contender wrote, by source and rank."""
    manifest = folder / "manifest.json"
    if manifest.exists():
        listed = pq.read_table(folder / json.loads(manifest.read_text())["files"]["path"]).to_pylist()
        files = [folder / file["path"] for file in listed if file["kind"] == "rollouts"]
    else:
        files = sorted(folder.glob("*.parquet"))
    if not files:
        raise FileNotFoundError(f"no result in {folder}")
    table = pa.concat_tables(
        [pq.ParquetFile(file).read(_SCHEMA.names).select(_SCHEMA.names).cast(_SCHEMA) for file in files]
    )
    order = pc.sort_indices(table, [("source", "ascending"), ("rank", "ascending")])
    if np.array_equal(order.to_numpy(), np.arange(len(order))):
        return table
    return table.take(order)


def disagreement(ours: pa.Table, theirs: pa.Table, with_scores: bool = True) -> str | None:
    """In what the second result differs from the first; None: in nothing.

    Without ``with_scores`` rollouts of equal BIS may have changed places.
    """
    if ours.num_rows != theirs.num_rows:
        return f"{theirs.num_rows} rollouts instead of {ours.num_rows}"
    for name in ("source", "rank"):
        if differing := pc.sum(pc.not_equal(ours[name], theirs[name])).as_py():
            return f"another {name} in {differing} rows"
    far = np.abs(ours["bis"].to_numpy() - theirs["bis"].to_numpy()) > TOLERANCE
    if far.any():
        return f"another BIS in {far.sum()} rows"
    if with_scores and (differing := _rows_of_other_scores(ours["scores"], theirs["scores"])):
        return f"other scores in {differing} rows"
    return None


def _rows_of_other_scores(ours: pa.ChunkedArray, theirs: pa.ChunkedArray) -> int:
    lengths = [pc.list_value_length(column).to_numpy() for column in (ours, theirs)]
    if (lengths[0] != lengths[1]).any():
        return int((lengths[0] != lengths[1]).sum())
    values = [pc.list_flatten(column).to_numpy() for column in (ours, theirs)]
    owner = np.repeat(np.arange(len(lengths[0])), lengths[0])
    return len(np.unique(owner[values[0] != values[1]]))
