"""Scan a split of JSONL shards in the steps layout: lines in, one row per step out, without its text.

A block in which all steps are valid, as in most blocks, is checked as a whole (`SoundSteps`).  In any other
block each line is checked by itself (`line_row`).  Both ways give the same rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from types import NoneType
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bisieve import schemas
from bisieve.ranking.sort import constant_column
from bisieve.records.decode import lines_decoder, record_decoder
from bisieve.records.diagnosis import Refusal, diagnose, diagnose_record
from bisieve.records.model import (
    BAD_JSON,
    MARKER_IN_TEXT,
    NO_ROLLOUT_ID,
    question_of,
    step_counts,
    step_reason,
    step_score,
)
from bisieve.records.options import ReadOptions
from bisieve.records.prompt import MARKER
from bisieve.scan.batches import PromptIds, ScanOptions, prompt_ids, small_counts
from bisieve.shards.jsonl import (
    Block,
    Ints,
    Places,
    all_say_something,
    hold_marker,
    line_places,
    read_blocks,
    records_of,
)
from bisieve.shards.listing import Split

BLOCK = 2**19  # bytes of a block
BATCH_ROWS = 2**14  # steps of a batch, about

Floats: TypeAlias = npt.NDArray[np.float64]


def scan_steps(split: Split, options: ScanOptions) -> Iterator[pa.RecordBatch]:
    """Yield the steps whose lines begin in ``split``, as batches of `schemas.STEPS`.

    Batches are not always in file order.  A record without a rollout id has a null ``rollout_id``; a record
    for which its rollout must be rejected has a ``reason``.  The steps of a rollout may be in several shards,
    in any order: `group_steps` groups them.

    Raises:
        CorpusError: The shard cannot be decompressed, or does not hold JSON lines.
        StorageError: It cannot be read.
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
            yield pa.RecordBatch.from_pylist(rows, schema=schemas.STEPS)
    if len(sound):
        yield sound.batch()


def _one_by_one(
    block: Block, places: Places, decode: Any, shard: str, reading: ReadOptions
) -> list[dict[str, Any]]:
    default, partition, rows = reading.source_of(shard), reading.partition_of(shard), []
    for start, end in zip(places.start.tolist(), places.end.tolist(), strict=True):
        line = block.data[start:end]
        if line.strip():
            row = line_row(line, decode, reading, default, partition)
            rows.append({**row, "shard": shard, "offset": block.offset + start, "length": len(line)})
    return rows


def line_row(
    line: bytes, decode: Any, reading: ReadOptions, default: str, partition: str | None
) -> dict[str, Any]:
    """Return the row of `schemas.STEPS` for a line, without its place (shard, offset, length).

    Args:
        line: Not blank.
        decode: From `record_decoder` for the steps layout.
        reading: How records are read.
        default: The shard's source.
        partition: The source field's value in the shard's path, as in ``source=geo/``; None if there is none.
    """
    try:
        return _step_row(decode(line), reading, default)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _refused_row(diagnose(line, "steps", reading, partition), default)


def record_row(record: dict[str, Any], convert: Any, reading: ReadOptions, default: str) -> dict[str, Any]:
    """Return the row of `schemas.STEPS` for a record of a Parquet shard, without its place.

    Args:
        record: With the field names of this package; {} for a row whose text is not UTF-8.
        convert: From `record_converter` for the steps layout.
        reading: How records are read.
        default: The shard's source.
    """
    try:
        return _step_row(convert(record), reading, default)
    except msgspec.ValidationError:
        refusal = diagnose_record(record, "steps", reading) if record else Refusal(BAD_JSON)
        return _refused_row(refusal, default)


def _step_row(record: Any, reading: ReadOptions, default: str) -> dict[str, Any]:
    if record.rollout_id == "":
        return {"source": default, "reason": NO_ROLLOUT_ID}
    source = default if reading.source_field is None else (record.source or "").strip()
    image_id, prompt_id, question_id = prompt_ids(record.image, record.question_orig, record.question)
    score = step_score(record)
    correct, total = step_counts(record) or (None, None)
    reason = step_reason(record.step, score)
    if reason is None and MARKER in question_of(record.question_orig, record.question):
        reason = MARKER_IN_TEXT
    return {
        "rollout_id": str(record.rollout_id),
        "step_index": record.step_index,
        # A source field, like the prompt, is needed only on a rollout's first step.
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
    if refusal.reason in (BAD_JSON, NO_ROLLOUT_ID):
        return row
    # The record has a rollout id, so the reason rejects that rollout, whose other steps may be elsewhere.
    return {**row, "rollout_id": refusal.rollout_id}


@dataclass
class SoundSteps:
    """Builder of a batch of valid steps of one shard; arrays are appended block by block."""

    shard: str
    reading: ReadOptions
    rollout_id: list[str] = field(default_factory=list)
    step_index: list[pa.Array] = field(default_factory=list)
    source: list[str | None] = field(default_factory=list)  # the source field's values; [] without one
    heads: list[int] = field(default_factory=list)  # numbers of the steps with an image or a question
    prompts: list[PromptIds] = field(default_factory=list)  # one for each of the heads
    score: list[Floats] = field(default_factory=list)
    mc_correct: list[pa.Array] = field(default_factory=list)
    mc_total: list[pa.Array] = field(default_factory=list)
    offset: list[Ints] = field(default_factory=list)
    length: list[Ints] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rollout_id)

    def take_in(self, found: list[Any], block: Block, places: Places) -> bool:
        """Append all steps of a block; return False, appending nothing, if any step might be invalid.

        Args:
            found: The decoded steps, one for each line of the block.
            block: Where the lines are in the shard.
            places: Where the lines are in the block.
        """
        ids, texts = [step.rollout_id for step in found], [step.step for step in found]
        score = np.array([step.score for step in found], np.float64)  # NaN where there is none
        heads = [n for n, step in enumerate(found) if step.image or step.question or step.question_orig]
        questions = [found[n].question_orig or found[n].question or "" for n in heads]
        if "" in ids or not ((score >= 0.0) & (score <= 1.0)).all() or not all_say_something(texts):
            return False
        if hold_marker(texts) or hold_marker(questions):
            return False
        begin = len(self)
        self.heads += [begin + number for number in heads]
        self.prompts += _prompts(found, heads)
        self.rollout_id += ids if {str}.issuperset(map(type, ids)) else map(str, ids)
        self.step_index.append(small_counts([step.step_index for step in found]))
        if self.reading.source_field is not None:
            self.source += [step.source for step in found]
        self.score.append(score)
        correct, total = _counts(found)
        self.mc_correct.append(correct)
        self.mc_total.append(total)
        self.offset.append(places.start + block.offset)
        self.length.append(places.end - places.start)
        return True

    def batch(self) -> pa.RecordBatch:
        """Return the steps of all blocks as a batch of `schemas.STEPS`; there must be at least one block."""
        images, questions, both = zip(*self.prompts, strict=True) if self.prompts else ((), (), ())
        correct, total = pa.concat_arrays(self.mc_correct), pa.concat_arrays(self.mc_total)
        known = pc.fill_null(pc.less_equal(correct, total), False)
        columns = {
            "rollout_id": pa.array(self.rollout_id, pa.string()),
            "step_index": pa.concat_arrays(self.step_index),
            "source": self._sources(),
            "image_id": self._of_heads(pa.array(images, pa.int64())),
            "prompt_id": self._of_heads(pa.array(questions, pa.int64())),
            "question_id": self._of_heads(pa.array(both, pa.string())),
            "score": pa.array(np.concatenate(self.score)),
            "mc_correct": pc.if_else(known, correct, None),
            "mc_total": pc.if_else(known, total, None),
            "shard": constant_column(self.shard, len(self)),
            "offset": pa.array(np.concatenate(self.offset)),
            "length": pa.array(np.concatenate(self.length)),
            "reason": pa.nulls(len(self), pa.string()),
        }
        return pa.record_batch([columns[column.name] for column in schemas.STEPS], schema=schemas.STEPS)

    def _sources(self) -> pa.Array:
        if self.reading.source_field is None:
            return constant_column(self.reading.source_of(self.shard), len(self))
        cleaned = {name: (name or "").strip() or None for name in set(self.source)}
        if len(cleaned) == 1 and (only := cleaned[self.source[0]]):
            return constant_column(only, len(self))
        return pa.array([cleaned[name] for name in self.source], pa.string()).dictionary_encode()

    def _of_heads(self, values: pa.Array) -> pa.Array:
        """Return a column [steps] with ``values`` (one for each head) at the heads and null elsewhere."""
        place, others = np.zeros(len(self), np.int64), np.ones(len(self), np.bool_)
        place[self.heads], others[self.heads] = np.arange(len(values)), False
        return values.take(pa.array(place, mask=others))


def _prompts(found: list[Any], heads: list[int]) -> list[PromptIds]:
    ids: list[PromptIds] = []
    before: Any = None
    for number in heads:
        step = found[number]
        prompt = step.image, step.question_orig, step.question
        if prompt != before:  # rollouts of a prompt are often adjacent: hash it once
            before, named = prompt, prompt_ids(*prompt)
        ids.append(named)
    return ids


def _counts(found: list[Any]) -> tuple[pa.Array, pa.Array]:
    """Return K and N of every step, int32 [steps] each; null for a value that is no count."""
    columns = [step.num_mc_correct for step in found], [step.num_mc_total for step in found]
    if not {int, NoneType}.issuperset(map(type, chain(*columns))):
        pairs = [step_counts(step) or (None, None) for step in found]
        columns = [correct for correct, _ in pairs], [total for _, total in pairs]
    return small_counts(columns[0]), small_counts(columns[1])
