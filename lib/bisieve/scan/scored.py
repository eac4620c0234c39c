"""Builds batches of `schema.SCORED`: the one place where scan results get their BIS."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bisieve import schema
from bisieve.scan.options import ScanOptions
from bisieve.score import score_rollouts
from bisieve.shards import file_stem

SPAN_NAMES = ("shard", "offset", "length")


def with_score(
    columns: dict[str, Any], scores: pa.Array, step_ends: Any, options: ScanOptions
) -> pa.RecordBatch:
    """A batch of scored rollouts: ``columns`` as given, the score's columns computed.

    ``scores`` is flat, float64; rollout i owns ``scores[step_ends[i]:step_ends[i + 1]]``.
    """
    offsets = np.asarray(step_ends, dtype=np.int64)
    parts = score_rollouts(scores.to_numpy(), offsets, options.alpha, options.threshold)
    return _batch(
        {
            **columns,
            **parts._asdict(),
            "num_steps": np.diff(offsets).astype(np.int32),
            "scores": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), scores),
        },
        len(offsets) - 1,
    )


def scored_batch(usable: Any, shard: str, options: ScanOptions) -> pa.RecordBatch:
    """The usable rollouts of one shard; each has one span."""
    offset, length = (pa.array(np.concatenate(places)) for places in (usable.offset, usable.length))
    shards = repeated(shard, len(offset))
    spans = pa.StructArray.from_arrays([shards, offset, length], fields=list(schema.SPAN))
    step_ends = np.concatenate([[0], np.cumsum(np.concatenate(usable.num_steps))])
    columns = {
        "source": usable.source,
        "rollout_id": usable.rollout_id,
        "question_id": usable.question_id,
        **counts_columns(pa.concat_arrays(usable.mc_correct), pa.concat_arrays(usable.mc_total), step_ends),
        "spans": pa.ListArray.from_arrays(pa.array(np.arange(len(offset) + 1, dtype=np.int32)), spans),
        "shard": shards,
        "offset": offset,
        "length": length,
    }
    return with_score(columns, pa.array(np.concatenate(usable.scores)), step_ends, options)


def repeated(text: str, times: int) -> pa.Array:
    """``text`` again and again; pyarrow's own ``repeat`` takes microseconds for each."""
    data = text.encode()
    ends = np.arange(times + 1, dtype=np.int32) * len(data)
    return pa.StringArray.from_buffers(times, pa.py_buffer(ends), pa.py_buffer(data * times))


def assembled_batch(
    steps: pa.Table, starts: npt.NDArray[np.int64], reasons: list[str | None], options: ScanOptions
) -> pa.RecordBatch:
    """The rollouts of `schema.STEPS` rows; rollout i owns rows ``starts[i]`` to ``starts[i + 1]``."""
    usable = np.array([reason is None for reason in reasons])
    rejects = _assembled_rejects(steps, starts[:-1][~usable], [reason for reason in reasons if reason])
    if not usable.any():
        return rejects
    owned = pa.array(np.repeat(usable, np.diff(starts)))
    heads = steps.take(pa.array(starts[:-1][usable]))
    steps = steps.filter(owned).combine_chunks()
    ends = np.concatenate([[0], np.cumsum(np.diff(starts)[usable])])
    flat = {
        name: steps[name].chunk(0)
        for name in ("score", "mc_correct", "mc_total", "shard", "offset", "length")
    }
    spans = pa.StructArray.from_arrays([flat[name] for name in SPAN_NAMES], fields=list(schema.SPAN))
    columns = {
        **{
            name: heads[name].combine_chunks()
            for name in ("source", "rollout_id", "question_id", *SPAN_NAMES)
        },
        **counts_columns(flat["mc_correct"], flat["mc_total"], ends),
        "spans": pa.ListArray.from_arrays(pa.array(ends, pa.int32()), spans),
    }
    scored = with_score(columns, flat["score"], ends, options)
    return pa.concat_batches([scored, rejects])


def _assembled_rejects(steps: pa.Table, heads: npt.NDArray[np.int64], reasons: list[str]) -> pa.RecordBatch:
    taken = steps.take(pa.array(heads))
    names = ("source", "rollout_id", *SPAN_NAMES)
    columns = {name: taken[name].combine_chunks() for name in names}
    stems = pa.array([file_stem(shard) for shard in taken["shard"].to_pylist()], pa.string())
    source = pc.coalesce(columns["source"], stems)
    return _batch({**columns, "source": source, "reason": reasons}, len(reasons))


def rejected_batch(rejects: Any, shard: str) -> pa.RecordBatch:
    """The rejected records of one shard."""
    num_rejects = len(rejects.offset)
    columns = {**vars(rejects), "shard": repeated(shard, num_rejects)}
    return _batch(columns, num_rejects)


def small_counts(values: list[int | None]) -> pa.Array:
    """Counts as int32, null where they are no such."""
    try:
        found = np.array(values, np.int64)
        if not len(found) or (found.min() >= 0 and found.max() < 2**31):
            return pa.array(found.astype(np.int32))
    except (TypeError, OverflowError):  # a null, or more than 64 bits
        pass
    return pa.array([v if v is not None and 0 <= v < 2**31 else None for v in values], pa.int32())


def counts_columns(correct: pa.Array, total: pa.Array, step_ends: Any) -> dict[str, pa.Array]:
    """The columns ``mc_correct`` and ``mc_total``: a rollout has all its counts, or null.

    ``correct`` and ``total`` are flat, int32, null where unknown.
    """
    ends = np.asarray(step_ends, dtype=np.int32)
    known = pc.fill_null(pc.less_equal(correct, total), False).to_numpy(zero_copy_only=False)
    without = pa.array(np.add.reduceat(~known, ends[:-1]) > 0)
    lists = [pa.ListArray.from_arrays(pa.array(ends), flat, mask=without) for flat in (correct, total)]
    return {"mc_correct": lists[0], "mc_total": lists[1]}


def _batch(columns: dict[str, Any], num_rows: int) -> pa.RecordBatch:
    arrays = [
        pa.nulls(num_rows, column.type)
        if column.name not in columns
        else _array(columns[column.name], column.type)
        for column in schema.SCORED
    ]
    return pa.record_batch(arrays, schema=schema.SCORED)


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, kind)
