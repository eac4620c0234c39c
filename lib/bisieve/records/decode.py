"""Decoding of JSON records into typed structs, under any field names.

`record_decoder` decodes one line, `lines_decoder` many lines at once, and `record_converter` a dict, such as
a row of Parquet.  "bisieve's names" are those in `options.FIELDS`; `ReadOptions.fields` maps them to the
names in the corpus.  The steps of a rollout may have one of three forms, which become one (`joined`):

    {"step": [...], "score": [...]}                        lists side by side in the record, as in TRL  ─┐
    {"steps_with_score": {"step": [...], "score": [...]}}  as Hugging Face datasets write structs       ─┤
                                                      {"steps_with_score": [{"step", "score"}, ...]}  ◀─┘

`shards.parquet_fields` does the same for columns of Parquet.
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
    """Return ``record``, which has bisieve's names, with lists of step fields joined to one list of dicts.

    A list of scores whose length differs from the number of steps gives every step a bad score (NaN); a list
    of counts of another length is dropped (None).  `shards.parquet_fields` does the same.  A record without
    lists of step fields is returned unchanged.
    """
    lists = record.get(STEPS, record)
    if not isinstance(lists, dict) or not isinstance(lists.get("step"), list):
        return record
    columns = {name: _beside(lists[name], len(lists["step"]), name) for name in STEP_FIELDS if name in lists}
    steps = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    rest = record if STEPS in record else {key: record[key] for key in record if key not in STEP_FIELDS}
    return rest | {STEPS: steps}


def _beside(values: Any, num_steps: int, name: str) -> list[Any]:
    """Return ``values`` if it is a list with one value per step, else a list of NaN or None."""
    if isinstance(values, list) and len(values) == num_steps:
        return values
    return [math.nan if name == "score" and values is not None else None] * num_steps


# msgspec (0.22) describes a struct on its first use, and a second thread that uses it meanwhile reads the
# unfinished description: the process dies of a segmentation fault. So they are used here, by one thread.
for _kind in (StepRecord, RolloutRecord, LooseRolloutRecord):
    msgspec.json.Decoder(_kind)


def record_decoder(
    layout: Layout, reading: ReadOptions, partition: str | None = None
) -> Callable[[bytes], Any]:
    """Return a function that decodes one line into a `RolloutRecord` or a `StepRecord`.

    The function raises `msgspec.DecodeError` (or its subclass `ValidationError`) for a line that cannot be
    decoded; `diagnosis.diagnose` then finds the reason.  A rollout is usable without MC counts, so invalid
    counts are dropped and are no error.

    Args:
        layout: Whether a record is a rollout or a step.
        reading: Field names and options.  With ``source_field`` the structs have one more attribute,
            ``source``.
        partition: The source of a record without that field: the value in the shard's path.
    """
    kinds = _record_types(layout, reading, partition)
    decode = _first_that_fits([msgspec.json.Decoder(kind).decode for kind in kinds], reading.labels_as_scores)
    convert = record_converter(layout, reading, partition)

    def decode_line(line: bytes) -> Any:
        try:
            return decode(line)
        # Another form of the steps, an embedded image, or a byte order mark where files were concatenated.
        except msgspec.DecodeError:
            record = msgspec.json.decode(line.removeprefix(BYTE_ORDER_MARK))
            if not isinstance(record, dict):
                raise
        return convert(in_our_form(record, layout, reading))

    return decode_line


def lines_decoder(
    layout: Layout, reading: ReadOptions, partition: str | None = None
) -> Callable[[bytes], list[Any]]:
    """Return a function that decodes many lines at once, for the common case that all are plain and valid.

    It raises for any line that the strict struct does not accept, also for some that `record_decoder`
    accepts: invalid counts, other forms of the steps, images as dicts.
    """
    return msgspec.json.Decoder(_record_types(layout, reading, partition)[0]).decode_lines


def record_converter(
    layout: Layout, reading: ReadOptions, partition: str | None = None
) -> Callable[[dict[str, Any]], Any]:
    """Return a function like that of `record_decoder`, for dicts in the form of `in_our_form`."""
    kinds = _record_types(layout, reading.of_our_names, partition)
    return _first_that_fits([partial(msgspec.convert, type=kind) for kind in kinds], reading.labels_as_scores)


def _first_that_fits(
    decoders: Sequence[Callable[[Any], Any]], labels_as_scores: bool
) -> Callable[[Any], Any]:
    """Return the only decoder, or one that tries the strict decoder first and then the loose one."""
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
    """Return ``step`` with its score checked, or with K/N as its score if it has only the two counts.

    Raises:
        msgspec.ValidationError: There is no valid score.
    """
    score = step_score(step)
    if not is_score(score, labels_as_scores):
        raise msgspec.ValidationError("a step without a score")
    correct, total = step_counts(step) or (None, None)
    return ScoredStep(step.step, float(score), correct, total)


def _record_types(layout: Layout, reading: ReadOptions, partition: str | None = None) -> list[type[Any]]:
    """Return the structs to try, in this order; their fields have the names in the corpus."""
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
    """Return a subclass of ``kind`` whose fields are decoded from the names in the corpus.

    Args:
        kind: The struct.
        reading: Has the names.
        more: Further fields, as (name, type, default).
        types: Types that replace those of fields of ``kind``.
    """
    fields: list[Any] = []
    for known in msgspec.structs.fields(kind):  # declared again: msgspec does not rename inherited fields
        default = () if known.required else (known.default,)
        fields.append((known.name, types.get(known.name, known.type), *default))
    return msgspec.defstruct("Record", [*fields, *more], bases=(kind,), rename=reading.names, gc=False)


def in_our_form(record: dict[str, Any], layout: Layout, reading: ReadOptions) -> dict[str, Any]:
    """Return ``record`` with bisieve's names, images as text and, for a rollout, one list of steps."""
    named = with_our_names(record, reading)
    if "image" in named:
        named["image"] = in_text(named["image"])
    return joined(named) if layout == "rollouts" else named


def with_our_names(record: dict[str, Any], reading: ReadOptions) -> dict[str, Any]:
    """Return ``record`` with its fields renamed from the names in the corpus to bisieve's names.

    Other fields stay, except one whose name is a bisieve name that is read from another field.
    """
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
    """Return ``record`` renamed by ``names`` (bisieve's name → name in the record), at the top level only."""
    ours = {theirs: name for name, theirs in names.items()}
    return {ours.get(key, key): value for key, value in record.items() if key in ours or key not in names}
