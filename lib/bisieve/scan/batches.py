"""Build the Arrow batches of a scan (`schemas.SCORED`); `with_score` computes the score of its rollouts."""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from bisieve import schemas
from bisieve.ranking.sort import codes_and_texts, constant_column
from bisieve.records.model import images_of, question_of
from bisieve.records.options import ReadOptions
from bisieve.scoring import score_rollouts

Ends: TypeAlias = npt.NDArray[np.int64]

SPAN_NAMES = ("shard", "offset", "length")


# The prompt of one record: a hash of its images and one of its question (int64), and the question_id made of
# both; None for what the record does not have.
PromptIds: TypeAlias = tuple[int | None, int | None, str | None]


@dataclass(frozen=True)
class ScanOptions:
    """The parameters that a scan needs to turn records into scored rollouts."""

    alpha: float  # parameter of the score, paper §4
    threshold: float = 0.0  # a step is positive when its score exceeds it
    reading: ReadOptions = field(default_factory=ReadOptions)


def with_score(
    columns: dict[str, Any], scores: pa.Array, step_ends: Any, options: ScanOptions
) -> pa.RecordBatch:
    """Return a batch of scored rollouts: the given columns, and those of the score (paper §4).

    Args:
        columns: Columns of `schemas.SCORED` by name; missing ones become null.
        scores: MC scores of all steps, float64 [steps].
        step_ends: Rollout i has the steps ``step_ends[i]`` up to ``step_ends[i + 1]``, [rollouts + 1].
        options: Alpha and threshold of the score.
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


@dataclass(frozen=True)
class UsableColumns:
    """Columns of usable rollouts of one shard; values per step are concatenated over all rollouts."""

    source: list[str]
    rollout_id: list[str]
    question_id: list[str]
    offset: pa.Array  # int64 [rollouts], bytes; in Parquet the number of the row
    length: pa.Array  # int64 [rollouts], bytes; in Parquet 1
    step_ends: Ends  # [rollouts + 1], the first is 0
    scores: pa.Array  # float64 [steps]
    mc_correct: pa.Array  # int32 [steps], null where unknown
    mc_total: pa.Array  # int32 [steps], null where unknown


def scored_batch(usable: UsableColumns, shard: str, options: ScanOptions) -> pa.RecordBatch:
    """Return a scored batch of usable rollouts of ``shard``, each with one span."""
    num_rollouts = len(usable.offset)
    shards = constant_column(shard, num_rollouts)
    spans = pa.StructArray.from_arrays([shards, usable.offset, usable.length], fields=list(schemas.SPAN))
    columns = {
        "source": usable.source,
        "rollout_id": usable.rollout_id,
        "question_id": usable.question_id,
        **counts_columns(usable.mc_correct, usable.mc_total, usable.step_ends),
        "spans": pa.ListArray.from_arrays(pa.array(np.arange(num_rollouts + 1, dtype=np.int32)), spans),
        "shard": shards,
        "offset": usable.offset,
        "length": usable.length,
    }
    return with_score(columns, usable.scores, usable.step_ends, options)


def assembled_batch(
    steps: pa.Table, starts: npt.NDArray[np.int64], reasons: list[str | None], options: ScanOptions
) -> pa.RecordBatch:
    """Return a batch of rollouts made of steps: first the scored ones, then the rejected ones.

    Args:
        steps: Rows of `schemas.STEPS`, the steps of a rollout adjacent and in order.
        starts: Rollout i has the rows ``starts[i]`` to ``starts[i + 1]`` (exclusive), int64 [rollouts + 1].
        reasons: For each rollout, why it is rejected; None if it is usable.
        options: Alpha and threshold of the score, and how a shard names its source.
    """
    usable = np.array([reason is None for reason in reasons])
    if not usable.all():
        refused = [reason for reason in reasons if reason]
        rejects = _assembled_rejects(*_owned(steps, starts, ~usable), refused, options)
        if not usable.any():
            return rejects
    steps, ends = _owned(steps, starts, usable)
    heads = steps.take(pa.array(ends[:-1]))
    flat = {name: steps[name].chunk(0) for name in ("score", "mc_correct", "mc_total")}
    columns = {
        **{
            name: heads[name].combine_chunks()
            for name in ("source", "rollout_id", "question_id", *SPAN_NAMES)
        },
        **counts_columns(flat["mc_correct"], flat["mc_total"], ends),
        "spans": _spans(steps, ends),
    }
    scored = with_score(columns, flat["score"], ends, options)
    return scored if usable.all() else pa.concat_batches([scored, rejects])


def _owned(steps: pa.Table, starts: Ends, mask: npt.NDArray[np.bool_]) -> tuple[pa.Table, Ends]:
    """Return the rows of the rollouts in ``mask``, and new row bounds of the same form as ``starts``."""
    lengths = np.diff(starts)
    rows = steps.filter(pa.array(np.repeat(mask, lengths))).combine_chunks()
    return rows, np.concatenate([[0], np.cumsum(lengths[mask])])


def _spans(steps: pa.Table, ends: Ends) -> pa.ListArray:
    flat = [steps[name].combine_chunks() for name in SPAN_NAMES]
    spans = pa.StructArray.from_arrays(flat, fields=list(schemas.SPAN))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), spans)


def _assembled_rejects(
    steps: pa.Table, ends: Ends, reasons: list[str], options: ScanOptions
) -> pa.RecordBatch:
    taken = steps.take(pa.array(ends[:-1]))
    names = ("source", "rollout_id", *SPAN_NAMES)
    columns = {name: taken[name].combine_chunks() for name in names}
    codes, shards = codes_and_texts(taken["shard"])
    default = pa.array(map(options.reading.source_of, shards), pa.string()).take(pa.array(codes))
    source = pc.coalesce(columns["source"].cast(pa.string()), default)
    columns |= {"source": source, "reason": reasons, "spans": _spans(steps, ends)}
    return _batch(columns, len(reasons))


def rejected_batch(rejects: Any, shard: str) -> pa.RecordBatch:
    """Return a batch of the rejected records (`rollouts.Rejects`) of one shard."""
    num_rejects = len(rejects.offset)
    columns = {**vars(rejects), "shard": constant_column(shard, num_rejects)}
    return _batch(columns, num_rejects)


def small_counts(values: list[int | None]) -> pa.Array:
    """Return MC counts as int32; null for None and for numbers outside 0 to 2^31 - 1."""
    try:
        return pa.array(np.frombuffer(bytes(values), np.uint8).astype(np.int32))  # type: ignore[arg-type]
    except (TypeError, ValueError):  # bytes() refuses None and numbers above 255, both rare
        pass
    return pa.array([v if v is not None and 0 <= v < 2**31 else None for v in values], pa.int32())


def fitting_counts(values: pa.Array) -> pa.Array:
    """Return integers of any type as int32; null outside 0 to 2^31 - 1."""
    fits = pc.and_(pc.greater_equal(values, 0), pc.less(values, 2**31))
    return pc.if_else(fits, values, pa.scalar(None, values.type)).cast(pa.int32())


def counts_columns(correct: pa.Array, total: pa.Array, step_ends: Any) -> dict[str, pa.Array]:
    """Return the list columns ``mc_correct`` and ``mc_total``; null for a rollout that lacks any count.

    Args:
        correct: K of each step, int32 [steps], null where unknown.
        total: N of each step, int32 [steps]; K > N counts as unknown.
        step_ends: Bounds of the steps of each rollout, [rollouts + 1]; every rollout has a step.
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
        for column in schemas.SCORED
    ]
    return pa.record_batch(arrays, schema=schemas.SCORED)


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    if not isinstance(values, pa.Array):
        return pa.array(values, kind)
    return values if values.type == kind else values.cast(kind)


def prompt_ids(image: str | list[str] | None, question_orig: str | None, question: str | None) -> PromptIds:
    """Return the `PromptIds` of a record, from its fields."""
    images = "\0".join(images_of(image)).encode()
    asked = question_of(question_orig, question).encode()
    both = _named(images, asked) if images and asked else None
    return _number(images), _number(asked), both


def question_id(image: str | list[str], question: str) -> str:
    """Return the id of a prompt, equal for rollouts with the same images and question; 32 hex digits."""
    images = image if isinstance(image, str) else "\0".join(image)
    return _named(images.encode(), question.encode())


def _named(images: bytes, question: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(b"%b\0%b" % (images, question))


def _number(text: bytes) -> int | None:
    return xxhash.xxh3_64_intdigest(text) - 2**63 if text else None
