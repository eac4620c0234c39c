"""Decode records of JSON or Parquet into typed structs, under any field names.

    {"step": [...], "score": [...]}                        side by side in the record, as TRL does    ─┐
    {"steps_with_score": {"step": [...], "score": [...]}}  as Hugging Face's datasets write structs  ─┤
                                                    {"steps_with_score": [{"step", "score"}, ...]}  ◀─┘

`parquet_fields` does the same for Parquet.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from bisieve.records.embedded_images import in_text
from bisieve.records.model import (
    LooseRolloutRecord,
    LooseStep,
    RolloutRecord,
    ScoredStep,
    StepRecord,
    is_score,
    step_counts,
    step_score,
)
from bisieve.records.options import SOURCE, STEP_FIELDS, STEPS, Layout, ReadOptions

Record = dict[str, Any]

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def joined(record: Record) -> Record:
    """Return ``record``, whose fields have the names that they have here, with one list of steps.

    As in Parquet, a list of scores whose length is not that of the steps makes each of them a bad one, and
    such a list of counts is left out.  A record without lists of steps is returned as it is.
    """
    lists = record.get(STEPS, record)
    if not isinstance(lists, dict) or not isinstance(lists.get("step"), list):
        return record
    columns = {name: _beside(lists[name], len(lists["step"]), name) for name in STEP_FIELDS if name in lists}
    steps = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    rest = record if STEPS in record else {key: record[key] for key in record if key not in STEP_FIELDS}
    return rest | {STEPS: steps}


def _beside(values: Any, num_steps: int, name: str) -> list[Any]:
    """Return ``values``, one a step, or what stands for them where they are no such list."""
    if isinstance(values, list) and len(values) == num_steps:
        return values
    return [math.nan if name == "score" and values is not None else None] * num_steps


def record_decoder(
    layout: Layout, reading: ReadOptions, partition: str | None = None
) -> Callable[[bytes], Any]:
    """A decoder of lines into `RolloutRecord` or `StepRecord`; it raises what msgspec raises.

    Where the source is a field, the record has one attribute more, ``source``: ``partition``, the value in
    the shard's path, where the record has no such field.  A rollout is usable without
    MC counts, so counts that are no counts are left out rather than refused.
    """
    kinds = _record_types(layout, reading, partition)
    decode = _first_that_fits([msgspec.json.Decoder(kind).decode for kind in kinds], reading.labels_as_scores)
    convert = record_converter(layout, reading, partition)

    def decode_line(line: bytes) -> Any:
        try:
            return decode(line)
        except msgspec.DecodeError:  # lists of steps, images, or a mark where a file was appended to another
            record = msgspec.json.decode(line.removeprefix(BYTE_ORDER_MARK))
            if not isinstance(record, dict):
                raise
        return convert(in_our_form(record, layout, reading))

    return decode_line


def lines_decoder(
    layout: Layout, reading: ReadOptions, partition: str | None = None
) -> Callable[[bytes], list[Any]]:
    """A decoder of many lines at once; it raises where `record_decoder` would on any, and for odd counts."""
    return msgspec.json.Decoder(_record_types(layout, reading, partition)[0]).decode_lines


def record_converter(
    layout: Layout, reading: ReadOptions, partition: str | None = None
) -> Callable[[dict[str, Any]], Any]:
    """As `record_decoder`, of records that are dicts `in_our_form` already."""
    kinds = _record_types(layout, reading.of_our_names, partition)
    return _first_that_fits([partial(msgspec.convert, type=kind) for kind in kinds], reading.labels_as_scores)


def _first_that_fits(
    decoders: Sequence[Callable[[Any], Any]], labels_as_scores: bool
) -> Callable[[Any], Any]:
    """The one decoder, or the strict one and, for what it refuses, the loose one."""
    if len(decoders) == 1:
        return decoders[0]
    strict, loose = decoders

    def decode(record: Any) -> Any:
        try:
            return strict(record)
        except msgspec.ValidationError:
            found = loose(record)
        found.steps_with_score = [_scored(step, labels_as_scores) for step in found.steps_with_score]
        return found

    return decode


def _scored(step: LooseStep, labels_as_scores: bool) -> ScoredStep:
    """``step`` with K/N as its score where that is all there is; `msgspec.ValidationError` without any."""
    score = step_score(step)
    if not is_score(score, labels_as_scores):
        raise msgspec.ValidationError("a step without a score")
    correct, total = step_counts(step) or (None, None)
    return ScoredStep(step.step, float(score), correct, total)


def _record_types(layout: Layout, reading: ReadOptions, partition: str | None = None) -> list[type[Any]]:
    """The structs to try, in this order, under the names that the fields have in the records."""
    labels = reading.labels_as_scores
    if not (reading.fields or reading.source_field is not None or labels):
        return [StepRecord] if layout == "steps" else [RolloutRecord, LooseRolloutRecord]
    source = [] if reading.source_field is None else [(SOURCE, str | None, partition)]
    kind = float | bool | None if layout == "steps" else float | bool
    step_types: dict[str, Any] = {"score": kind} if labels else {}
    if layout == "steps":
        return [_renamed(StepRecord, reading, source, **step_types)]
    strict = _renamed(ScoredStep, reading, **step_types)
    return [
        _renamed(record, reading, source, steps_with_score=list[step])  # type: ignore[valid-type]
        for record, step in ((RolloutRecord, strict), (LooseRolloutRecord, _renamed(LooseStep, reading)))
    ]


def _renamed(kind: type[Any], reading: ReadOptions, more: Sequence[Any] = (), **types: Any) -> type[Any]:
    """``kind`` under the names in the records, with fields ``more``, and with other ``types`` of its own."""
    fields: list[Any] = []
    for known in msgspec.structs.fields(kind):  # declared anew: msgspec renames no field that it inherits
        default = () if known.required else (known.default,)
        fields.append((known.name, types.get(known.name, known.type), *default))
    return msgspec.defstruct("Record", [*fields, *more], bases=(kind,), rename=reading.names, gc=False)


def in_our_form(record: dict[str, Any], layout: Layout, reading: ReadOptions) -> dict[str, Any]:
    """Return ``record`` `with_our_names`, with text for each image and one list of a rollout's steps."""
    named = with_our_names(record, reading)
    if "image" in named:
        named["image"] = in_text(named["image"])
    return joined(named) if layout == "rollouts" else named


def with_our_names(record: dict[str, Any], reading: ReadOptions) -> dict[str, Any]:
    """``record`` with the names that fields have here; what else it holds stays, unless its name is taken."""
    renamed = _with_our_names(record, reading.names)
    if not reading.fields:
        return renamed
    names = {ours: reading.names[ours] for ours in STEP_FIELDS}
    steps = renamed.get(STEPS)
    if isinstance(steps, dict):
        renamed[STEPS] = _with_our_names(steps, names)
    elif isinstance(steps, list):
        named = [_with_our_names(step, names) if isinstance(step, dict) else step for step in steps]
        renamed[STEPS] = named
    return renamed


def _with_our_names(record: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    ours = {theirs: name for name, theirs in names.items()}
    return {ours.get(key, key): value for key, value in record.items() if key in ours or key not in names}
