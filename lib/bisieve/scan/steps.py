"""Scans a split of the steps layout: lines in, one row a step out, without its text."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import xxhash

from bisieve import records, schema
from bisieve.lines import read_lines
from bisieve.prompt import MARKER
from bisieve.scan.options import ScanOptions
from bisieve.scan.rollouts import question_id
from bisieve.shards import Split, file_stem
from bisieve.sort.runs import to_bytes

PART_BYTES = 16 * 2**20  # of rows that are parted at once


def scan_steps(split: Split, options: ScanOptions) -> Iterator[pa.RecordBatch]:
    """The steps whose records begin in ``split``, as batches of `schema.STEPS`.

    A record that names no rollout comes out with a null ``rollout_id``; one that spoils its rollout with
    the reason.  Steps of a rollout may lie in any shard, in any order: `assemble` brings them together.
    """
    decode = records.record_decoder("steps", options.source_field)
    stem = file_stem(split.shard)
    for offset, lines in read_lines(split.shard, split.start, split.end):
        rows = []
        for line in lines:
            if line.strip():
                row = _row(line, decode, stem, options.source_field)
                rows.append({**row, "shard": split.shard, "offset": offset, "length": len(line)})
            offset += len(line) + 1
        if rows:
            yield pa.RecordBatch.from_pylist(rows, schema=schema.STEPS)


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
    order = np.argsort(part, kind="stable")
    starts = np.searchsorted(part[order], np.arange(parts + 1))
    rows = rows.take(order)
    for number in np.flatnonzero(np.diff(starts)).tolist():
        yield number, to_bytes(rows.slice(starts[number], starts[number + 1] - starts[number]))


def _row(line: bytes, decode: Any, stem: str, source_field: str | None) -> dict[str, Any]:
    try:
        record = decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _refused(line, stem, source_field)
    if record.rollout_id == "":
        return {"source": stem, "reason": records.NO_ROLLOUT_ID}
    source = stem if source_field is None else (record.source or "").strip()
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


def _refused(line: bytes, stem: str, source_field: str | None) -> dict[str, Any]:
    refusal = records.diagnose(line, "steps", source_field)
    row = {"source": refusal.source or stem, "reason": refusal.reason}
    if refusal.reason in (records.BAD_JSON, records.NO_ROLLOUT_ID):
        return row
    # The record names its rollout, so the rollout is spoilt, wherever its other steps lie.
    return {**row, "rollout_id": refusal.rollout_id}


def _hash(text: str) -> int | None:
    return xxhash.xxh3_64_intdigest(text.encode()) - 2**63 if text else None
