"""Scan a split of JSONL shards in the rollouts layout: lines in, scored and rejected rollouts out.

A block in which all records are usable, as in most blocks, is checked as a whole (`_all_usable`).  In any
other block each record is checked by itself (`_OneByOne`).  Both ways give the same rows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from bisieve.records.decode import lines_decoder, record_decoder
from bisieve.records.diagnosis import diagnose
from bisieve.records.model import NO_SOURCE, rollout_reason
from bisieve.records.options import ReadOptions
from bisieve.scan.batches import (
    ScanOptions,
    UsableColumns,
    question_id,
    rejected_batch,
    scored_batch,
    small_counts,
)
from bisieve.shards.jsonl import (
    Block,
    Ints,
    Places,
    all_say_something,
    hold_marker,
    image_names,
    line_places,
    read_blocks,
    records_of,
)
from bisieve.shards.listing import Split

BLOCK = 2**18  # bytes of a block; the decoded records then fit into a core's cache, too
BATCH_ROWS = 2**13  # rollouts of a batch, about

Floats: TypeAlias = npt.NDArray[np.float64]


class Usable(NamedTuple):
    """Usable records of a block, with the steps of all of them in one list."""

    records: list[Any]
    places: Places  # of the records' lines
    steps: list[Any]
    scores: Floats  # float64 [steps]

    @staticmethod
    def of(found: list[Any], places: Places) -> "Usable":
        """Collect the steps and scores of ``found``."""
        steps = list(chain.from_iterable([record.steps_with_score for record in found]))
        scores = np.fromiter([step.score for step in steps], np.float64, len(steps))
        return Usable(found, places, steps, scores)


@dataclass
class Columns:
    """Builder of `UsableColumns`: arrays are appended block by block, and `joined` concatenates them."""

    source: list[str] = field(default_factory=list)
    rollout_id: list[str] = field(default_factory=list)
    question_id: list[str] = field(default_factory=list)
    offset: list[Ints] = field(default_factory=list)
    length: list[Ints] = field(default_factory=list)
    num_steps: list[Ints] = field(default_factory=list)
    scores: list[Floats] = field(default_factory=list)  # per step, as are the counts
    mc_correct: list[pa.Array] = field(default_factory=list)
    mc_total: list[pa.Array] = field(default_factory=list)

    def add(self, usable: Usable, block: Block, sources: list[str]) -> None:
        """Append the usable records of a block.

        A record without ``rollout_id`` gets the hash of its line as its id.
        """
        found, places, steps, scores = usable
        text = memoryview(block.data)
        self.source += sources
        self.rollout_id += [
            xxhash.xxh3_128_hexdigest(text[start:end])
            if record.rollout_id is None
            else str(record.rollout_id)
            for record, start, end in zip(found, places.start.tolist(), places.end.tolist(), strict=True)
        ]
        self.question_id += _question_ids(found)
        self.offset.append(places.start + block.offset)
        self.length.append(places.end - places.start)
        self.num_steps.append(np.array([len(record.steps_with_score) for record in found], np.int64))
        self.scores.append(scores)
        self.mc_correct.append(small_counts([step.num_mc_correct for step in steps]))
        self.mc_total.append(small_counts([step.num_mc_total for step in steps]))

    def joined(self) -> UsableColumns:
        """Return the columns of all blocks; there must be at least one."""
        return UsableColumns(
            source=self.source,
            rollout_id=self.rollout_id,
            question_id=self.question_id,
            offset=pa.array(np.concatenate(self.offset)),
            length=pa.array(np.concatenate(self.length)),
            step_ends=np.concatenate([[0], np.cumsum(np.concatenate(self.num_steps))]),
            scores=pa.array(np.concatenate(self.scores)),
            mc_correct=pa.concat_arrays(self.mc_correct),
            mc_total=pa.concat_arrays(self.mc_total),
        )


@dataclass
class Rejects:
    """Columns of rejected records of one shard, for `rejected_batch`."""

    source: list[str] = field(default_factory=list)
    offset: list[int] = field(default_factory=list)
    length: list[int] = field(default_factory=list)
    reason: list[str] = field(default_factory=list)

    def add(self, offset: int, length: int, source: str, reason: str) -> None:
        """Append a record: its place in the shard (bytes; in Parquet row number and 1), source and reason."""
        self.offset.append(offset)
        self.length.append(length)
        self.source.append(source)
        self.reason.append(reason)


def scan_rollouts(split: Split, options: ScanOptions) -> Iterator[pa.RecordBatch]:
    """Yield the rollouts whose lines begin in ``split``, as batches of `schemas.SCORED`.

    Every line that is not blank gives one row, scored or with the reason of its rejection.

    Raises:
        CorpusError: The shard cannot be decompressed, or does not hold JSON lines.
        StorageError: It cannot be read.
    """
    source_field = options.reading.source_field
    partition = options.reading.partition_of(split.shard)
    decode_lines = lines_decoder("rollouts", options.reading, partition)
    one_by_one = _OneByOne(split.shard, options.reading)
    usable, num_usable = Columns(), 0
    for block in read_blocks(split.shard, split.start, split.end, BLOCK):
        places = line_places(block.data)
        found = _all_usable(block, places, decode_lines, source_field)
        if found is None:
            found, sources = one_by_one.usable(block, places)
        elif source_field is not None:
            sources = [record.source.strip() for record in found.records]
        else:
            sources = [one_by_one.default] * len(found.records)
        usable.add(found, block, sources)
        num_usable += len(sources)
        if num_usable >= BATCH_ROWS:
            yield scored_batch(usable.joined(), split.shard, options)
            usable, num_usable = Columns(), 0
        if len(one_by_one.rejects.offset) >= BATCH_ROWS:
            yield rejected_batch(one_by_one.take_rejects(), split.shard)
    if num_usable:
        yield scored_batch(usable.joined(), split.shard, options)
    if one_by_one.rejects.offset:
        yield rejected_batch(one_by_one.take_rejects(), split.shard)


def _all_usable(
    block: Block, places: Places, decode_lines: Callable[[bytes], list[Any]], source_field: str | None
) -> Usable | None:
    """Return the records of ``block`` if all are usable by the rules of `model.rollout_reason`, else None."""
    found = records_of(block, places, decode_lines)
    if found is None or not all([record.steps_with_score for record in found]):  # noqa: C419 - twice as fast as a generator
        return None
    usable = Usable.of(found, places)
    if not ((usable.scores >= 0.0) & (usable.scores <= 1.0)).all():
        return None
    texts = [step.step for step in usable.steps]
    questions = [record.question_orig or record.question for record in found]
    names = image_names([record.image for record in found])
    if source_field is not None:
        names += [record.source for record in found]
    if not {str}.issuperset(map(type, chain(names, questions))):
        return None
    if not all(map(all_say_something, (texts, questions, names))):
        return None
    if hold_marker(texts) or hold_marker(questions) or "" in [record.rollout_id for record in found]:
        return None
    return usable


class _OneByOne:
    """Reader of single lines; it collects the rejected records in ``rejects``."""

    def __init__(self, shard: str, reading: ReadOptions) -> None:
        self.default = reading.source_of(shard)
        self.rejects = Rejects()
        self._reading = reading
        self._partition = reading.partition_of(shard)
        self._decode = record_decoder("rollouts", reading, self._partition)

    def usable(self, block: Block, places: Places) -> tuple[Usable, list[str]]:
        """Return the usable records of ``block`` and their sources; add the others to ``rejects``."""
        found, sources = [], []
        lines: list[int] = []
        for number, (start, end) in enumerate(zip(places.start.tolist(), places.end.tolist(), strict=True)):
            line = block.data[start:end]
            record, source, reason = self._read(line)
            if reason is None:
                found.append(record)
                lines.append(number)
                sources.append(source)
            elif line.strip():
                self.rejects.add(block.offset + start, len(line), source, reason)
        return Usable.of(found, Places(places.start[lines], places.end[lines])), sources

    def take_rejects(self) -> Rejects:
        """Return the records rejected since the last call, and start a new collection."""
        rejects, self.rejects = self.rejects, Rejects()
        return rejects

    def _read(self, line: bytes) -> tuple[Any, str, str | None]:
        """Return the record (None if it cannot be decoded), its source, and why it is rejected, or None."""
        try:
            record = self._decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            refusal = diagnose(line, "rollouts", self._reading, self._partition)
            return None, refusal.source or self.default, refusal.reason
        reason, source = verdict(record, self._reading, self.default)
        return record, source, reason


def verdict(record: Any, reading: ReadOptions, default: str) -> tuple[str | None, str]:
    """Check a decoded rollout.

    Args:
        record: As the decoder returned it.
        reading: With a source field the record must name its source.
        default: The shard's source.

    Returns:
        The reason of its rejection, or None if it is usable; and its source, ``default`` if it names none.
    """
    if reading.source_field is None:
        return rollout_reason(record), default
    source = (record.source or "").strip()
    return (rollout_reason(record), source) if source else (NO_SOURCE, default)


def _question_ids(found: list[Any]) -> list[str]:
    ids: list[str] = []
    before: Any = None
    for record in found:
        prompt = record.image, record.question_orig or record.question
        if prompt != before:  # rollouts of a question are often adjacent: hash it once
            before, named = prompt, question_id(record.image, prompt[1].strip())
        ids.append(named)
    return ids
