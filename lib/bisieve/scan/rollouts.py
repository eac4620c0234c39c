"""Scans a split of the rollouts layout: lines in, scored and rejected rollouts out.

A block of lines whose records are all usable, as most are, is read column by column; any other one record
by record.  Both ways give the same rows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any

import msgspec
import pyarrow as pa
import xxhash

from bisieve import records
from bisieve.decoding import record_decoder
from bisieve.diagnosis import diagnose
from bisieve.lines import read_lines
from bisieve.prompt import MARKER
from bisieve.reading import Reading
from bisieve.scan.options import ScanOptions
from bisieve.scan.scored import rejected_batch, scored_batch
from bisieve.shards import Split

BLOCK = 2**19  # bytes whose records are read together: what fits into a core's cache
BATCH_ROWS = 2**13


@dataclass
class Columns:
    """Usable rollouts under construction, by column; steps lie flat with their rollouts' ends beside."""

    source: list[str] = field(default_factory=list)
    rollout_id: list[str] = field(default_factory=list)
    question_id: list[str] = field(default_factory=list)
    offset: list[int] = field(default_factory=list)
    length: list[int] = field(default_factory=list)
    step_ends: list[int] = field(default_factory=lambda: [0])
    scores: list[float] = field(default_factory=list)
    mc_correct: list[int | None] = field(default_factory=list)
    mc_total: list[int | None] = field(default_factory=list)

    def add(self, found: list[Any], lines: list[bytes], offsets: list[int], sources: list[str]) -> None:
        """Takes in usable records and the lines they were read from."""
        steps = list(chain.from_iterable([record.steps_with_score for record in found]))
        self.source += sources
        self.rollout_id += [
            xxhash.xxh3_128_hexdigest(line) if record.rollout_id is None else str(record.rollout_id)
            for record, line in zip(found, lines, strict=True)
        ]
        self.question_id += [
            question_id(record.image, records.question_of(record.question_orig, record.question))
            for record in found
        ]
        self.offset += offsets
        self.length += map(len, lines)
        counts = [len(record.steps_with_score) for record in found]
        self.step_ends += accumulate(counts[1:], initial=self.step_ends[-1] + counts[0])
        self.scores += [step.score for step in steps]
        self.mc_correct += [step.num_mc_correct for step in steps]
        self.mc_total += [step.num_mc_total for step in steps]


@dataclass
class Rejects:
    """Rejected records under construction."""

    source: list[str] = field(default_factory=list)
    offset: list[int] = field(default_factory=list)
    length: list[int] = field(default_factory=list)
    reason: list[str] = field(default_factory=list)

    def add(self, offset: int, length: int, source: str, reason: str) -> None:
        """Takes in the record at a place."""
        self.offset.append(offset)
        self.length.append(length)
        self.source.append(source)
        self.reason.append(reason)


def scan_rollouts(split: Split, options: ScanOptions) -> Iterator[pa.RecordBatch]:
    """The rollouts whose records begin in ``split``, as batches of `schema.SCORED`.

    Blank lines are no records.  Everything else comes out, scored or with the reason of its rejection.
    """
    reading = options.reading
    decode = record_decoder("rollouts", reading)
    default = reading.source_of(split.shard)
    usable, rejects = Columns(), Rejects()
    for start, lines in read_lines(split.shard, split.start, split.end, BLOCK):
        offsets = list(accumulate([len(line) + 1 for line in lines[:-1]], initial=start))
        found = _all_usable(lines, decode, reading.source_field)
        if found is None:
            _one_by_one(lines, offsets, decode, reading, default, usable, rejects)
        else:
            named = reading.source_field is not None
            sources = [record.source.strip() for record in found] if named else [default] * len(found)
            usable.add(found, lines, offsets, sources)
        if len(usable.offset) >= BATCH_ROWS:
            yield scored_batch(usable, split.shard, options)
            usable = Columns()
    if usable.offset:
        yield scored_batch(usable, split.shard, options)
    if rejects.offset:
        yield rejected_batch(rejects, split.shard)


def _all_usable(
    lines: list[bytes], decode: Callable[[bytes], Any], source_field: str | None
) -> list[Any] | None:
    """The records of ``lines`` when `records.rollout_reason` has nothing against any of them, else None."""
    try:
        found = list(map(decode, lines))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if any(not record.steps_with_score or record.rollout_id == "" for record in found):
        return None
    steps = list(chain.from_iterable([record.steps_with_score for record in found]))
    if not all([0.0 <= step.score <= 1.0 for step in steps]):  # noqa: C419 - twice as fast as a generator
        return None
    texts = [step.step for step in steps]
    questions = [record.question_orig or record.question for record in found]
    names = [record.image for record in found]
    if source_field is not None:
        names += [record.source for record in found]
    if not {str}.issuperset(map(type, chain(names, questions))):
        return None
    for strings in (texts, questions, names):
        if not all(strings) or any(map(str.isspace, strings)):
            return None
    if any([MARKER[0] in text and MARKER in text for text in chain(texts, questions)]):  # noqa: C419
        return None
    return found


def _one_by_one(
    lines: list[bytes],
    offsets: list[int],
    decode: Callable[[bytes], Any],
    reading: Reading,
    default: str,
    usable: Columns,
    rejects: Rejects,
) -> None:
    for line, offset in zip(lines, offsets, strict=True):
        try:
            record = decode(line)
            reason, source = verdict(record, reading, default)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            if not line.strip():
                continue
            refusal = diagnose(line, "rollouts", reading)
            reason, source = refusal.reason, refusal.source or default
        if reason is None:
            usable.add([record], [line], [offset], [source])
        else:
            rejects.add(offset, len(line), source, reason)


def verdict(record: Any, reading: Reading, default: str) -> tuple[str | None, str]:
    """Why a typed rollout is rejected (None: it is usable), and its source, ``default`` if it names none."""
    if reading.source_field is None:
        return records.rollout_reason(record), default
    source = (record.source or "").strip()
    return (records.rollout_reason(record), source) if source else (records.NO_SOURCE, default)


def question_id(image: str | list[str], question: str) -> str:
    """Names a prompt: rollouts with the same images and question share it."""
    images = image if isinstance(image, str) else "\0".join(image)
    return xxhash.xxh3_128_hexdigest(f"{images}\0{question}".encode())
