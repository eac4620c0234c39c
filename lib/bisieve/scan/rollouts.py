"""Scans a split of the rollouts layout: lines in, scored and rejected rollouts out.

A block of lines whose records are all usable, as most are, is read column by column; any other one record
by record.  Both ways give the same rows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import xxhash

from bisieve import records
from bisieve.lines import read_lines
from bisieve.prompt import MARKER
from bisieve.scan.options import ScanOptions
from bisieve.scan.scored import rejected_batch, scored_batch
from bisieve.shards import Split, file_stem


@dataclass
class Columns:
    """Usable rollouts, column by column; steps lie flat with their rollouts' ends beside."""

    source: Any
    rollout_id: list[str]
    question_id: list[str]
    offset: list[int]
    length: list[int]
    step_ends: list[int]  # from 0 on
    scores: list[float]
    mc_correct: list[int | None]
    mc_total: list[int | None]


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
    for start, lines in read_lines(split.shard, split.start, split.end):
        ends = accumulate((len(line) + 1 for line in lines), initial=start)
        offsets = list(ends)[:-1]
        found, sources = _all_usable(lines, decode, stem, options.source_field), [stem] * len(lines)
        rejects = Rejects()
        if found is None:
            found, lines, offsets, sources, rejects = _one_by_one(
                lines, offsets, decode, stem, options.source_field
            )
        elif options.source_field is not None:
            sources = [record.source.strip() for record in found]
        if found:
            yield scored_batch(_columns(found, lines, offsets, sources), split.shard, options.alpha)
        if rejects.offset:
            yield rejected_batch(rejects, split.shard)


def _all_usable(
    lines: list[bytes], decode: Callable[[bytes], Any], stem: str, source_field: str | None
) -> list[Any] | None:
    """The records of ``lines`` when `records.rollout_reason` has nothing against any of them, else None."""
    try:
        found = list(map(decode, lines))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    steps = list(chain.from_iterable([record.steps_with_score for record in found]))
    texts = [step.step for step in steps]
    images = [record.image for record in found]
    questions = [record.question_orig or record.question for record in found]
    named = [*texts, *questions, *images]
    if source_field is not None:
        named += [record.source for record in found]
    if not all(named) or set(map(type, named)) != {str} or any(map(str.isspace, named)):
        return None
    if any(not record.steps_with_score or record.rollout_id == "" for record in found):
        return None
    scores = np.array([step.score for step in steps])
    if not ((scores >= 0.0) & (scores <= 1.0)).all():
        return None
    # The marker is ASCII: it stands in a line as it is, or with escapes of the form \u00xx.
    for line in lines:
        if b"<prm>" in line or b"\\u00" in line:
            return None if any(MARKER in text for text in chain(texts, questions)) else found
    return found


def _one_by_one(
    lines: list[bytes],
    offsets: list[int],
    decode: Callable[[bytes], Any],
    stem: str,
    source_field: str | None,
) -> tuple[list[Any], list[bytes], list[int], list[str], Rejects]:
    """Usable records with their lines, offsets and sources; and the others."""
    found, kept, places, sources, rejects = [], [], [], [], Rejects()
    for line, offset in zip(lines, offsets, strict=True):
        source: str | None = stem
        try:
            record = decode(line)
            if source_field is not None:
                source = (record.source or "").strip()
            reason = records.rollout_reason(record) if source else records.NO_SOURCE
        except (msgspec.MsgspecError, ValueError, RecursionError):
            if not line.strip():
                continue
            refusal = records.diagnose(line, "rollouts", source_field)
            reason, source = refusal.reason, refusal.source
        if reason is None:
            found.append(record)
            kept.append(line)
            places.append(offset)
            sources.append(source or stem)
        else:
            rejects.source.append(source or stem)
            rejects.offset.append(offset)
            rejects.length.append(len(line))
            rejects.reason.append(reason)
    return found, kept, places, sources, rejects


def _columns(found: list[Any], lines: list[bytes], offsets: list[int], sources: list[str]) -> Columns:
    steps = list(chain.from_iterable([record.steps_with_score for record in found]))
    return Columns(
        source=sources,
        rollout_id=[
            xxhash.xxh3_128_hexdigest(line) if record.rollout_id is None else str(record.rollout_id)
            for record, line in zip(found, lines, strict=True)
        ],
        question_id=[
            question_id(
                records.images_of(record.image), records.question_of(record.question_orig, record.question)
            )
            for record in found
        ],
        offset=offsets,
        length=list(map(len, lines)),
        step_ends=list(accumulate([len(record.steps_with_score) for record in found], initial=0)),
        scores=[step.score for step in steps],
        mc_correct=[step.num_mc_correct for step in steps],
        mc_total=[step.num_mc_total for step in steps],
    )


def question_id(images: list[str], question: str) -> str:
    """Names a prompt: rollouts with the same images and question share it."""
    return xxhash.xxh3_128_hexdigest("\0".join([*images, question]).encode())
