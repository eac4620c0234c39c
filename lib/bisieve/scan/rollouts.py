"""Scans a split of the rollouts layout: lines in, scored and rejected rollouts out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pyarrow as pa
import xxhash

from bisieve import records
from bisieve.lines import read_lines
from bisieve.scan.options import ScanOptions
from bisieve.scan.scored import rejected_batch, scored_batch
from bisieve.shards import Split, file_stem


@dataclass
class Columns:
    """Rows under construction, column by column; steps lie flat with their rollouts' ends beside."""

    source: list[str] = field(default_factory=list)
    rollout_id: list[str] = field(default_factory=list)
    question_id: list[str] = field(default_factory=list)
    offset: list[int] = field(default_factory=list)
    length: list[int] = field(default_factory=list)
    step_ends: list[int] = field(default_factory=lambda: [0])
    scores: list[float] = field(default_factory=list)
    mc_correct: list[int | None] = field(default_factory=list)
    mc_total: list[int | None] = field(default_factory=list)


@dataclass
class Rejects:
    """Rejected records under construction."""

    source: list[str] = field(default_factory=list)
    offset: list[int] = field(default_factory=list)
    length: list[int] = field(default_factory=list)
    reason: list[str] = field(default_factory=list)


def scan_rollouts(split: Split, options: ScanOptions) -> Iterator[pa.RecordBatch]:
    """The rollouts whose records begin in ``split``, as batches of `schema.SCORED`.

    Blank lines are no records.  Everything else comes out, scored or with the reason of its rejection.
    """
    decode = records.record_decoder("rollouts", options.source_field)
    stem = file_stem(split.shard)
    for offset, lines in read_lines(split.shard, split.start, split.end):
        usable, rejects = _read(lines, offset, decode, stem, options.source_field)
        if usable.offset:
            yield scored_batch(usable, split.shard, options.alpha)
        if rejects.offset:
            yield rejected_batch(rejects, split.shard)


def _read(
    lines: list[bytes], offset: int, decode: Callable[[bytes], Any], stem: str, source_field: str | None
) -> tuple[Columns, Rejects]:
    usable, rejects = Columns(), Rejects()
    for line in lines:
        source = stem
        try:
            record = decode(line)
            if source_field is not None:
                source = (record.source or "").strip()
            reason = records.rollout_reason(record) if source else records.NO_SOURCE
        except (msgspec.MsgspecError, ValueError, RecursionError):
            if not line.strip():
                offset += len(line) + 1
                continue
            refusal = records.diagnose(line, "rollouts", source_field)
            reason, source = refusal.reason, refusal.source or stem
        if reason is None:
            _append(usable, record, source, line, offset)
        else:
            rejects.source.append(source or stem)
            rejects.offset.append(offset)
            rejects.length.append(len(line))
            rejects.reason.append(reason)
        offset += len(line) + 1
    return usable, rejects


def _append(usable: Columns, record: Any, source: str, line: bytes, offset: int) -> None:
    question = records.question_of(record.question_orig, record.question)
    images = records.images_of(record.image)
    given = record.rollout_id
    usable.source.append(source)
    usable.rollout_id.append(xxhash.xxh3_128_hexdigest(line) if given is None else str(given))
    usable.question_id.append(question_id(images, question))
    usable.offset.append(offset)
    usable.length.append(len(line))
    steps = record.steps_with_score
    usable.scores.extend([step.score for step in steps])
    usable.mc_correct.extend([step.num_mc_correct for step in steps])
    usable.mc_total.extend([step.num_mc_total for step in steps])
    usable.step_ends.append(len(usable.scores))


def question_id(images: list[str], question: str) -> str:
    """Names a prompt: rollouts with the same images and question share it."""
    return xxhash.xxh3_128_hexdigest("\0".join([*images, question]).encode())
