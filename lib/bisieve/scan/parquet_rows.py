"""Scan a split of a Parquet shard: the same output as for JSONL lines with the same records.

Rollouts are checked column by column (`doubtful`).  The few rows that may be unusable are then checked one by
one, with the checks for lines.  Steps are all checked one by one.  A span is (shard, number of the row, 1).
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from bisieve import schemas
from bisieve.records.decode import record_converter
from bisieve.records.diagnosis import Refusal, diagnose_record
from bisieve.records.model import BAD_JSON
from bisieve.records.options import SOURCE, STEPS
from bisieve.records.prompt import MARKER
from bisieve.scan.batches import (
    Ends,
    ScanOptions,
    UsableColumns,
    fitting_counts,
    question_id,
    rejected_batch,
    scored_batch,
)
from bisieve.scan.rollouts import Rejects, verdict
from bisieve.scan.steps import record_row
from bisieve.shards.listing import Split
from bisieve.shards.parquet import read_split
from bisieve.shards.parquet_fields import STEP_TYPES, flat, or_share

_NO_TEXT = Refusal(BAD_JSON)

Mask = npt.NDArray[np.bool_]


def scan_rollout_rows(split: Split, options: ScanOptions) -> Iterator[pa.RecordBatch]:
    """Yield the rollouts of the row groups that begin in ``split``, as batches of `schemas.SCORED`.

    Every row gives one row, scored or with the reason of its rejection.

    Raises:
        CorpusError: The shard is not a Parquet file or is damaged.
        StorageError: It cannot be read.
    """
    reading = options.reading
    default = reading.source_of(split.shard)
    convert = record_converter("rollouts", reading)
    for first_row, rows in read_split(split, "rollouts", reading):
        keep = ~doubtful(rows)
        rejects = Rejects()
        doubts = np.flatnonzero(~keep)
        for place, row in zip(doubts.tolist(), _records(rows.take(pa.array(doubts))), strict=True):
            try:
                reason, source = verdict(convert(row), reading, default)
            except msgspec.ValidationError:
                refusal = diagnose_record(row, "rollouts", reading) if row else _NO_TEXT
                reason, source = refusal.reason, refusal.source or default
            if reason is None:
                keep[place] = True
            else:
                rejects.add(first_row + place, 1, source, reason)
        if keep.any():
            usable = usable_columns(rows.filter(pa.array(keep)), first_row + np.flatnonzero(keep), default)
            yield scored_batch(usable, split.shard, options)
        if rejects.offset:
            yield rejected_batch(rejects, split.shard)


def scan_step_rows(split: Split, options: ScanOptions) -> Iterator[pa.RecordBatch]:
    """Yield the steps of the row groups that begin in ``split``, as batches of `schemas.STEPS`.

    Raises:
        CorpusError: The shard is not a Parquet file or is damaged.
        StorageError: It cannot be read.
    """
    reading = options.reading
    default = reading.source_of(split.shard)
    convert = record_converter("steps", reading)
    for first_row, rows in read_split(split, "steps", reading):
        found = []
        for place, row in enumerate(_records(rows)):
            step = record_row(row, convert, reading, default)
            found.append({**step, "shard": split.shard, "offset": first_row + place, "length": 1})
        if found:
            yield pa.RecordBatch.from_pylist(found, schema=schemas.STEPS)


def _records(rows: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return rows as dicts; {}, which no record type accepts, for a row whose text is not UTF-8."""
    try:
        return list(rows.to_pylist())
    except UnicodeDecodeError:
        if rows.num_rows == 1:
            return [{}]
        return [record for place in range(rows.num_rows) for record in _records(rows.slice(place, 1))]


def doubtful(rows: pa.RecordBatch) -> Mask:
    """Return a mask of the rows that may be unusable, bool [rows]; every other row is a usable rollout.

    Args:
        rows: As `record_rows` returns them.
    """
    every = np.ones(rows.num_rows, np.bool_)
    steps, names, ids = rows[STEPS], rows["image"], rows["rollout_id"]
    if not pa.types.is_list(steps.type) or not pa.types.is_struct(steps.type.value_type):
        return every
    ends, structs = flat(steps)
    texts, scores = structs.field("step"), structs.field("score")
    listed = pa.types.is_list(names.type)
    name_ends, each_name = flat(names) if listed else (np.arange(rows.num_rows + 1), names)
    sources = [rows[SOURCE]] if SOURCE in rows.schema.names else []
    strings = [texts, each_name, rows["question"], rows["question_orig"], *sources]
    strings += [] if pa.types.is_integer(ids.type) else [ids]
    if scores.type != pa.float64() or not all(map(_is_text, strings)):
        return every
    question = _questions(rows)
    in_range = pc.and_(pc.greater_equal(scores, 0.0), pc.less_equal(scores, 1.0))  # false for NaN
    found = _any(_blank(texts) | _marked(texts) | ~_true(in_range), ends)
    found |= _any(_blank(each_name), name_ends) | _blank(question) | _marked(question)
    for source in sources:
        found |= _blank(source)
    return found if pa.types.is_integer(ids.type) else found | _true(pc.equal(ids, ""))


def usable_columns(rows: pa.RecordBatch, numbers: npt.NDArray[np.int64], default: str) -> UsableColumns:
    """Return the columns that the index keeps of usable rows.

    Args:
        rows: As `record_rows` returns them; all of them are usable.
        numbers: Their row numbers in the file, int64 [rows].
        default: The shard's source.
    """
    ends, steps = flat(rows[STEPS])
    steps = _with_scores(steps)
    asked = [question.strip() for question in _questions(rows).to_pylist()]
    questions = list(map(question_id, rows["image"].to_pylist(), asked))
    named = SOURCE in rows.schema.names
    return UsableColumns(
        source=list(map(str.strip, rows[SOURCE].to_pylist())) if named else [default] * rows.num_rows,
        rollout_id=_rollout_ids(rows["rollout_id"], questions, ends, steps),
        question_id=questions,
        offset=pa.array(numbers, pa.int64()),
        length=pa.repeat(pa.scalar(1, pa.int64()), rows.num_rows),
        step_ends=ends,
        scores=steps.field("score"),
        mc_correct=fitting_counts(_or_nulls(steps.field("num_mc_correct"), pa.int64())),
        mc_total=fitting_counts(_or_nulls(steps.field("num_mc_total"), pa.int64())),
    )


def _with_scores(steps: pa.StructArray) -> pa.StructArray:
    """Return the steps of usable rows with float64 scores; K/N if the score column has another type."""
    if steps.field("score").type == pa.float64():
        return steps
    correct, total = (steps.field(name) for name in ("num_mc_correct", "num_mc_total"))
    score = or_share(pa.nulls(len(steps), pa.float64()), correct, total)
    return pa.StructArray.from_arrays([steps.field("step"), score, correct, total], list(STEP_TYPES))


def _questions(rows: pa.RecordBatch) -> pa.Array:
    """Return ``question_orig``, or ``question`` if it is empty, as `model.question_of`; not yet stripped."""
    shown, asked = (_or_nulls(rows[name], pa.string()) for name in ("question", "question_orig"))
    return pc.if_else(pc.fill_null(pc.not_equal(asked, ""), False), asked, shown)


def _or_nulls(values: pa.Array, kind: pa.DataType) -> pa.Array:
    # The rows are usable, so they do not need a value that has another type: it is ignored.
    return values if values.type == kind else pa.nulls(len(values), kind)


def _rollout_ids(ids: pa.Array, questions: list[str], ends: Ends, steps: pa.Array) -> list[str]:
    """Return the given ids; where one is null, a hash of question id, step texts and scores instead."""
    given = ids.to_pylist()
    if not ids.null_count:
        return list(map(str, given))
    texts, scores = steps.field("step"), steps.field("score").to_numpy()
    starts = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    data = memoryview(texts.buffers()[2])

    def content(row: int) -> str:
        mine = slice(ends[row], ends[row + 1])
        digest = xxhash.xxh3_128(questions[row].encode())
        digest.update(np.diff(starts[mine.start : mine.stop + 1]).tobytes())
        digest.update(data[starts[mine.start] : starts[mine.stop]])
        digest.update(scores[mine].tobytes())
        return digest.hexdigest()

    return [content(row) if name is None else str(name) for row, name in enumerate(given)]


def _is_text(values: pa.Array) -> bool:
    """Return whether the values are strings in valid UTF-8 (or null); Parquet does not guarantee UTF-8."""
    if values.type != pa.string():
        return False
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _true(mask: pa.Array) -> Mask:
    return np.asarray(pc.fill_null(mask, False).to_numpy(zero_copy_only=False), np.bool_)


def _marked(texts: pa.Array) -> Mask:
    return _true(pc.match_substring(texts, MARKER))


def _blank(texts: pa.Array) -> Mask:
    """Return a mask of texts that are null, empty or white space only, as `str.strip` defines it."""
    blank = ~_true(pc.match_substring_regex(texts, "[!-~]"))
    rest = np.flatnonzero(blank)  # texts without visible ASCII: few, or in another script
    blank[rest] = [not (text and text.strip()) for text in texts.take(pa.array(rest)).to_pylist()]
    return blank


def _any(values: Mask, ends: Ends) -> Mask:
    """Return a mask of the rows (lists) in which any of ``values`` is true, and of empty rows."""
    rows = len(ends) - 1
    owner = np.repeat(np.arange(rows), np.diff(ends))
    return np.asarray((np.bincount(owner[values], minlength=rows) > 0) | (np.diff(ends) == 0))
