"""Conversion of Parquet rows to bisieve's names and types, from the names and types of their file.

    steps_with_score: list<struct<step, score, …>>              ─┐
    steps_with_score: struct<step: list<…>, score: list<…>, …>  ─┼▶ steps_with_score: list<struct<STEP_TYPES>>
    step: list<…>, score: list<…>, … (side by side)             ─┘

`record_rows` does this for a batch of rows; `records.decode` does the same for JSON records.

A column of a type that its field cannot have is not converted: the checks of records then find the reason.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from bisieve.records.embedded_images import holds_images, in_names
from bisieve.records.model import MAX_INT32
from bisieve.records.options import SOURCE, STEP_FIELDS, STEPS, Layout, ReadOptions

STEP_TYPES = {
    "step": pa.string(), "score": pa.float64(), "num_mc_correct": pa.int64(), "num_mc_total": pa.int64(),
}  # fmt: skip
_PROMPT = {
    "rollout_id": pa.string(),
    "image": pa.string(),
    "question": pa.string(),
    "question_orig": pa.string(),
}
_LISTS = (
    kinds.is_list, kinds.is_large_list, kinds.is_fixed_size_list, kinds.is_list_view,
    kinds.is_large_list_view,
)  # fmt: skip
_NUMBERS = (kinds.is_floating, kinds.is_integer, kinds.is_decimal)
_INT64 = pa.scalar(2**63 - 1, pa.uint64())
_EXACT = 2.0**53  # every integer below it has an exact float64
_NO_SCORE = {pa.float64(): np.nan, pa.bool_(): False}  # type of the scores -> a value that is rejected


def needed_columns(found: Sequence[str], layout: Layout, reading: ReadOptions) -> list[str]:
    """Return those of the columns ``found`` in a file that have to be read, in the file's order."""
    names = reading.names
    wanted = [*_PROMPT, SOURCE]
    if layout == "steps":
        wanted += ["step_index", *STEP_FIELDS]
    elif names[STEPS] in found:
        wanted.append(STEPS)
    else:
        wanted += STEP_FIELDS
    theirs = {names[name] for name in wanted if name in names}
    return [name for name in found if name in theirs]


def record_rows(
    rows: pa.RecordBatch, layout: Layout, reading: ReadOptions, partition: str | None = None
) -> pa.RecordBatch:
    """Return ``rows`` with bisieve's names and types: one column per field of the layout.

    Args:
        rows: Rows of a file.
        layout: Whether a row is a rollout or a step.
        reading: Has the names in the file.
        partition: The source of the rows if the file has no source column: the value in the shard's path.

    Returns:
        The same rows.  A field that the file does not have is null; images are replaced by their names.
    """
    columns = {name: typed(_column(rows, name, reading), kind) for name, kind in _PROMPT.items()}
    if holds_images(columns["image"].type):
        columns["image"] = in_names(columns["image"])
    if reading.source_field is not None:
        named = partition is None or reading.names[SOURCE] in rows.schema.names
        columns[SOURCE] = (
            typed(_column(rows, SOURCE, reading), pa.string())
            if named
            else pa.repeat(pa.scalar(partition, pa.string()), rows.num_rows)
        )
    if layout == "steps":
        columns["step_index"] = typed(_column(rows, "step_index", reading), pa.int64())
        columns |= {name: _typed_step(_column(rows, name, reading), name, reading) for name in STEP_TYPES}
    elif reading.names[STEPS] in rows.schema.names:
        columns[STEPS] = _nested_steps(rows[reading.names[STEPS]], reading)
    else:
        columns[STEPS] = _joined_steps(lambda name: _column(rows, name, reading), reading)
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


def _column(rows: pa.RecordBatch, name: str, reading: ReadOptions) -> pa.Array:
    theirs = reading.names[name]
    return rows[theirs] if theirs in rows.schema.names else pa.nulls(rows.num_rows)


def typed(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return ``values`` as ``kind``, or as lists of strings, if the conversion is safe; else unchanged.

    Args:
        values: A column of a file.
        kind: string, int64 or float64.  For int64, numbers that are not whole or too large become null.
    """
    if kinds.is_dictionary(values.type):
        values = values.dictionary_decode()
    if kinds.is_null(values.type):
        return values.cast(kind)
    if kind == pa.string():
        if _is_text(values.type):
            return values.cast(kind)
        if is_list(values.type) and _is_text(values.type.value_type):
            return values.cast(pa.list_(kind))
    if kind == pa.int64() and kinds.is_integer(values.type):
        if kinds.is_uint64(values.type):
            values = pc.if_else(pc.less_equal(values, _INT64), values, pa.scalar(None, values.type))
        return values.cast(kind)
    if kind == pa.int64() and kinds.is_floating(values.type):
        values = values.cast(pa.float64())
        integral = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), _EXACT))
        return pc.if_else(integral, values, pa.scalar(None, values.type)).cast(kind)
    if kind == pa.float64() and any(is_one(values.type) for is_one in _NUMBERS):
        return values.cast(kind, safe=False)
    return values


def _typed_step(values: pa.Array, name: str, reading: ReadOptions) -> pa.Array:
    """Return a column as its type in `STEP_TYPES`; with `labels_as_scores`, bool scores become 1 and 0."""
    if name == "score" and reading.labels_as_scores and kinds.is_boolean(values.type):
        return values.cast(pa.float64())
    return typed(values, STEP_TYPES[name])


def _is_text(kind: pa.DataType) -> bool:
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind))


def is_list(kind: pa.DataType) -> bool:
    """Return whether ``kind`` is one of Arrow's list types."""
    return any(is_one(kind) for is_one in _LISTS)


def flat(lists: pa.ListArray) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """Return the offsets of the lists in their values (int64 [lists + 1], from 0), and the values [total]."""
    ends = lists.offsets.to_numpy().astype(np.int64)
    return ends - ends[0], lists.values.slice(ends[0], ends[-1] - ends[0])


def _as_lists(values: pa.Array) -> pa.ListArray:
    return values if kinds.is_list(values.type) else values.cast(pa.list_(values.type.value_type))


def _nested_steps(steps: pa.Array, reading: ReadOptions) -> pa.Array:
    """Return a column of steps, a list of structs or a struct of lists, as list<struct<`STEP_TYPES`>>.

    A column of any other type is returned unchanged.
    """
    if kinds.is_struct(steps.type):
        return _joined_steps(lambda name: _member(steps, reading.names[name]), reading)
    if not is_list(steps.type) or not kinds.is_struct(steps.type.value_type):
        return steps
    lists = _as_lists(steps)
    ends, structs = flat(lists)
    columns = [_typed_step(_member(structs, reading.names[name]), name, reading) for name in STEP_TYPES]
    return _steps(ends, columns, lists.is_null())


def _member(structs: pa.StructArray, name: str) -> pa.Array:
    known = structs.type.get_field_index(name) >= 0
    return pc.struct_field(structs, name) if known else pa.nulls(len(structs))


def _joined_steps(lists_of: Callable[[str], pa.Array], reading: ReadOptions) -> pa.Array:
    """Join lists with one value per step into one list of structs per rollout.

    ``lists_of`` returns the column of lists for a field of `STEP_TYPES`.
    """
    texts = lists_of("step")
    if not is_list(texts.type):
        return texts
    lists = _as_lists(texts)
    ends, values = flat(lists)
    columns = [typed(values, STEP_TYPES["step"])]
    for name in STEP_FIELDS[1:]:
        theirs = lists_of(name)
        values = _typed_step(_beside(theirs, ends), name, reading)
        if name == "score" and (wrong := _NO_SCORE.get(values.type)) is not None:
            values = pc.if_else(_of_another_length(theirs, ends), wrong, values)  # never replaced by K/N
        columns.append(values)
    return _steps(ends, columns, lists.is_null())


def _beside(lists: pa.Array, ends: npt.NDArray[np.int64]) -> pa.Array:
    """Return the values of ``lists``, one per step; null if a rollout's list has another length.

    ``ends`` are the offsets of the rollouts in the steps, from `flat`.
    """
    if not is_list(lists.type):
        return pa.nulls(ends[-1])
    theirs, values = flat(_as_lists(lists))
    steps = np.diff(ends)
    place = np.arange(ends[-1]) + np.repeat(theirs[:-1] - ends[:-1], steps)
    return values.take(pa.array(place, mask=np.repeat(np.diff(theirs) != steps, steps)))


def _of_another_length(lists: pa.Array, ends: npt.NDArray[np.int64]) -> pa.Array:
    """Return for each step whether its rollout has a list of another length than the number of steps."""
    steps = np.diff(ends)
    if not is_list(lists.type):
        return pa.array(np.full(ends[-1], not pa.types.is_null(lists.type)))
    theirs, _ = flat(_as_lists(lists))
    there = lists.is_valid().to_numpy(zero_copy_only=False)
    return pa.array(np.repeat(there & (np.diff(theirs) != steps), steps))


def _steps(ends: npt.NDArray[np.int64], columns: list[pa.Array], missing: pa.Array) -> pa.Array:
    """Return the column of steps from columns with one value per step, in the order of `STEP_TYPES`.

    ``missing`` is true for rollouts whose list is null.
    """
    text, score, correct, total = columns
    structs = pa.StructArray.from_arrays(
        [text, or_share(score, correct, total), correct, total], list(STEP_TYPES)
    )
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), structs, mask=missing)


def or_share(score: pa.Array, correct: pa.Array, total: pa.Array) -> pa.Array:
    """Return ``score`` with K/N in place of nulls where both counts are valid, as `model.score_of` does."""
    counted = correct.type == pa.int64() and total.type == pa.int64()
    if not (counted and score.type == pa.float64() and score.null_count):
        return score
    valid = pc.and_(pc.greater_equal(correct, 0), pc.less_equal(correct, total))
    valid = pc.and_(valid, pc.and_(pc.greater(total, 0), pc.less_equal(total, MAX_INT32)))
    nothing = pa.scalar(None, pa.float64())
    n = pc.if_else(valid, total, 1).cast(pa.float64())
    share = pc.if_else(valid, pc.divide(correct.cast(pa.float64(), safe=False), n), nothing)
    return pc.coalesce(score, share)
