"""Scans a split of the steps layout: lines in, one row a step out, without its text."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from bisieve import records, schema
from bisieve.coded import repeated
from bisieve.decoding import lines_decoder, record_decoder
from bisieve.diagnosis import Refusal, diagnose, diagnose_record
from bisieve.lines import Block, read_blocks
from bisieve.prompt import MARKER
from bisieve.reading import Reading
from bisieve.scan.blocks import Places, all_say_something, hold_marker, line_places, records_of
from bisieve.scan.options import ScanOptions
from bisieve.scan.rollouts import question_id
from bisieve.scan.scored import small_counts
from bisieve.shards import Split
from bisieve.sort.runs import to_bytes

BLOCK = 2**19  # bytes whose records are read together
PART_BYTES = 16 * 2**20  # of rows that are parted at once


def scan_steps(split: Split, options: ScanOptions) -> Iterator[pa.RecordBatch]:
    """The steps whose records begin in ``split``, as batches of `schema.STEPS`.

    A record that names no rollout comes out with a null ``rollout_id``; one that spoils its rollout with
    the reason.  Steps of a rollout may lie in any shard, in any order: `assemble` brings them together.
    """
    reading = options.reading
    decode_lines, decode = lines_decoder("steps", reading), record_decoder("steps", reading)
    for block in read_blocks(split.shard, split.start, split.end, BLOCK):
        places = line_places(block.data)
        found = records_of(block, places, decode_lines)
        batch = None
        if found:
            batch = _sound_batch(found, block.offset, places, split.shard, reading)
        if batch is not None:
            yield batch
        elif rows := _one_by_one(block, places, decode, split.shard, reading):
            yield pa.RecordBatch.from_pylist(rows, schema=schema.STEPS)


def _sound_batch(
    found: list[Any], offset: int, places: Places, shard: str, reading: Reading
) -> pa.RecordBatch | None:
    """The steps ``found`` in a block when none spoils its rollout, read column by column; else None."""
    scores, ids = [step.score for step in found], [step.rollout_id for step in found]
    texts = [step.step for step in found]
    if None in scores or "" in ids or not all_say_something(texts):
        return None
    score = np.array(scores, np.float64)
    heads = [place for place, step in enumerate(found) if step.image or step.question or step.question_orig]
    prompts = [_prompt(found[place]) for place in heads]
    if not ((score >= 0.0) & (score <= 1.0)).all() or hold_marker(texts):
        return None
    if hold_marker([question for _, question in prompts]):
        return None
    num_steps = len(found)
    sources: Any = repeated(reading.source_of(shard), num_steps)
    if reading.source_field is not None:
        sources = pa.array([(step.source or "").strip() or None for step in found], schema.CODED)
    correct, total = _counts(found)
    columns = {
        "rollout_id": ids if {str}.issuperset(map(type, ids)) else list(map(str, ids)),
        "step_index": np.array([step.step_index for step in found], np.int32),
        "source": sources,
        "image_id": _scattered([_hash("\0".join(images)) for images, _ in prompts], heads, num_steps),
        "prompt_id": _scattered([_hash(question) for _, question in prompts], heads, num_steps),
        "question_id": _scattered([_question_id(*prompt) for prompt in prompts], heads, num_steps),
        "score": score,
        "mc_correct": correct,
        "mc_total": total,
        "shard": repeated(shard, num_steps),
        "offset": places.start + offset,
        "length": places.end - places.start,
        "reason": pa.nulls(num_steps, pa.string()),
    }
    arrays = [
        columns[field.name]
        if isinstance(columns[field.name], pa.Array)
        else pa.array(columns[field.name], field.type)
        for field in schema.STEPS
    ]
    return pa.record_batch(arrays, schema=schema.STEPS)


def _prompt(step: Any) -> tuple[list[str], str]:
    return records.images_of(step.image), records.question_of(step.question_orig, step.question)


def _question_id(images: list[str], question: str) -> str | None:
    return question_id(images, question) if images and question else None


def _scattered(values: list[Any], rows: list[int], num_rows: int) -> list[Any]:
    """``values`` at ``rows``, nothing elsewhere."""
    column: list[Any] = [None] * num_rows
    for row, value in zip(rows, values, strict=True):
        column[row] = value
    return column


def _counts(found: list[Any]) -> tuple[pa.Array, pa.Array]:
    """K and N of every step as `records.step_counts` has them: both, or null."""
    columns = [step.num_mc_correct for step in found], [step.num_mc_total for step in found]
    if not {int, type(None)}.issuperset(map(type, chain(*columns))):
        pairs = [records.step_counts(step) or (None, None) for step in found]
        columns = [correct for correct, _ in pairs], [total for _, total in pairs]
    correct, total = map(small_counts, columns)
    known = pc.fill_null(pc.less_equal(correct, total), False)
    return tuple(pc.if_else(known, count, pa.scalar(None, pa.int32())) for count in (correct, total))


def _one_by_one(
    block: Block, places: Places, decode: Any, shard: str, reading: Reading
) -> list[dict[str, Any]]:
    default, rows = reading.source_of(shard), []
    for start, end in zip(places.start.tolist(), places.end.tolist(), strict=True):
        line = block.data[start:end]
        if line.strip():
            row = line_row(line, decode, reading, default)
            rows.append({**row, "shard": shard, "offset": block.offset + start, "length": len(line)})
    return rows


def line_row(line: bytes, decode: Any, reading: Reading, default: str) -> dict[str, Any]:
    """What `schema.STEPS` keeps of a line, but for its place; ``default`` is the shard's source."""
    try:
        return _step_row(decode(line), reading, default)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _refused_row(diagnose(line, "steps", reading), default)


def record_row(record: dict[str, Any], convert: Any, reading: Reading, default: str) -> dict[str, Any]:
    """As `line_row`, of a row of a Parquet shard; an empty one is text that is no UTF-8."""
    try:
        return _step_row(convert(record), reading, default)
    except msgspec.ValidationError:
        refusal = diagnose_record(record, "steps", reading) if record else Refusal(records.BAD_JSON)
        return _refused_row(refusal, default)


def parted_by_rollout(
    batches: Iterable[pa.RecordBatch], parts: int, seed: int = 0
) -> Iterator[tuple[int, bytes]]:
    """Rows of `schema.STEPS`, all steps of a rollout in the same one of ``parts``."""
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size >= PART_BYTES:
            yield from _parted(held, parts, seed)
            held, size = [], 0
    yield from _parted(held, parts, seed)


def _parted(batches: list[pa.RecordBatch], parts: int, seed: int) -> Iterator[tuple[int, bytes]]:
    if not batches:
        return
    rows = pa.Table.from_batches(batches).combine_chunks()
    names = rows["rollout_id"].combine_chunks().dictionary_encode()
    hashes = [xxhash.xxh3_64_intdigest(name.encode(), seed) % parts for name in names.dictionary.to_pylist()]
    # Records that name no rollout may lie anywhere, so they lie everywhere: there can be very many.
    part = rows["offset"].to_numpy() % parts
    named = ~np.asarray(names.indices.is_null())
    part[named] = np.array(hashes, np.int64)[names.indices.drop_null().to_numpy()]
    yield from by_part(rows, part, parts)


def by_part(rows: pa.Table, part: npt.NDArray[np.int64], parts: int) -> Iterator[tuple[int, bytes]]:
    """The ``rows`` of each part, ``part`` [rows] from 0 to ``parts``, as bytes; none of one that has none."""
    order = np.argsort(part, kind="stable")
    starts = np.searchsorted(part[order], np.arange(parts + 1))
    rows = rows.take(order)
    for number in np.flatnonzero(np.diff(starts)).tolist():
        yield number, to_bytes(rows.slice(starts[number], starts[number + 1] - starts[number]))


def _step_row(record: Any, reading: Reading, default: str) -> dict[str, Any]:
    if record.rollout_id == "":
        return {"source": default, "reason": records.NO_ROLLOUT_ID}
    source = default if reading.source_field is None else (record.source or "").strip()
    images = records.images_of(record.image)
    question = records.question_of(record.question_orig, record.question)
    score = records.step_score(record)
    correct, total = records.step_counts(record) or (None, None)
    reason = records.step_reason(record.step, score)
    if reason is None and MARKER in question:
        reason = records.MARKER_IN_TEXT
    return {
        "rollout_id": str(record.rollout_id),
        "step_index": record.step_index,
        # With a source field the source, too, need only stand on a rollout's first step.
        "source": source or None,
        "image_id": _hash("\0".join(images)),
        "prompt_id": _hash(question),
        "question_id": question_id(record.image, question) if images and question else None,
        "score": score,
        "mc_correct": correct,
        "mc_total": total,
        "reason": reason,
    }


def _refused_row(refusal: Refusal, default: str) -> dict[str, Any]:
    row = {"source": refusal.source or default, "reason": refusal.reason}
    if refusal.reason in (records.BAD_JSON, records.NO_ROLLOUT_ID):
        return row
    # The record names its rollout, so the rollout is spoilt, wherever its other steps lie.
    return {**row, "rollout_id": refusal.rollout_id}


def _hash(text: str) -> int | None:
    return xxhash.xxh3_64_intdigest(text.encode()) - 2**63 if text else None
