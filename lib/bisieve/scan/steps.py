"""Scans a split of the steps layout: lines in, one row a step out, without its text."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa

from bisieve import records, schema
from bisieve.decoding import lines_decoder, record_decoder
from bisieve.diagnosis import Refusal, diagnose, diagnose_record
from bisieve.lines import Block, read_blocks
from bisieve.prompt import MARKER
from bisieve.reading import Reading
from bisieve.scan.blocks import Places, line_places, records_of
from bisieve.scan.options import ScanOptions
from bisieve.scan.prompts import prompt_ids
from bisieve.scan.sound_steps import SoundSteps
from bisieve.shards import Split

BLOCK = 2**19  # bytes whose records are read together
BATCH_ROWS = 2**14  # steps that make an Arrow batch


def scan_steps(split: Split, options: ScanOptions) -> Iterator[pa.RecordBatch]:
    """The steps whose records begin in ``split``, as batches of `schema.STEPS`.

    A record that names no rollout comes out with a null ``rollout_id``; one that spoils its rollout with
    the reason.  Steps of a rollout may lie in any shard, in any order: `assemble` brings them together.
    """
    reading = options.reading
    partition = reading.partition_of(split.shard)
    decode_lines = lines_decoder("steps", reading, partition)
    decode = record_decoder("steps", reading, partition)
    sound = SoundSteps(split.shard, reading)
    for block in read_blocks(split.shard, split.start, split.end, BLOCK):
        places = line_places(block.data)
        found = records_of(block, places, decode_lines)
        if found and sound.take_in(found, block, places):
            if len(sound) >= BATCH_ROWS:
                yield sound.batch()
                sound = SoundSteps(split.shard, reading)
        elif rows := _one_by_one(block, places, decode, split.shard, reading):
            yield pa.RecordBatch.from_pylist(rows, schema=schema.STEPS)
    if len(sound):
        yield sound.batch()


def _one_by_one(
    block: Block, places: Places, decode: Any, shard: str, reading: Reading
) -> list[dict[str, Any]]:
    default, partition, rows = reading.source_of(shard), reading.partition_of(shard), []
    for start, end in zip(places.start.tolist(), places.end.tolist(), strict=True):
        line = block.data[start:end]
        if line.strip():
            row = line_row(line, decode, reading, default, partition)
            rows.append({**row, "shard": shard, "offset": block.offset + start, "length": len(line)})
    return rows


def line_row(
    line: bytes, decode: Any, reading: Reading, default: str, partition: str | None
) -> dict[str, Any]:
    """What `schema.STEPS` keeps of a line, but for its place; ``default`` is the shard's source.

    ``partition`` is what a folder above the shard says for the source field.
    """
    try:
        return _step_row(decode(line), reading, default)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _refused_row(diagnose(line, "steps", reading, partition), default)


def record_row(record: dict[str, Any], convert: Any, reading: Reading, default: str) -> dict[str, Any]:
    """As `line_row`, of a row of a Parquet shard; an empty one is text that is no UTF-8."""
    try:
        return _step_row(convert(record), reading, default)
    except msgspec.ValidationError:
        refusal = diagnose_record(record, "steps", reading) if record else Refusal(records.BAD_JSON)
        return _refused_row(refusal, default)


def _step_row(record: Any, reading: Reading, default: str) -> dict[str, Any]:
    if record.rollout_id == "":
        return {"source": default, "reason": records.NO_ROLLOUT_ID}
    source = default if reading.source_field is None else (record.source or "").strip()
    image_id, prompt_id, question_id = prompt_ids(record.image, record.question_orig, record.question)
    score = records.step_score(record)
    correct, total = records.step_counts(record) or (None, None)
    reason = records.step_reason(record.step, score)
    if reason is None and MARKER in records.question_of(record.question_orig, record.question):
        reason = records.MARKER_IN_TEXT
    return {
        "rollout_id": str(record.rollout_id),
        "step_index": record.step_index,
        # With a source field the source, too, need only stand on a rollout's first step.
        "source": source or None,
        "image_id": image_id,
        "prompt_id": prompt_id,
        "question_id": question_id,
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
