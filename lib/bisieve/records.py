"""What a record says, and whether its rollout is usable.

A rollout is usable when it has an image, a question, at least one step, and every step has text and a finite
score in [0, 1].  Anything else is rejected under one of the reasons below, never repaired by guessing.
Records are decoded into typed structs that name only the needed fields; `diagnose` is asked why only where
that fails.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from bisieve.prompt import MARKER

Layout = Literal["rollouts", "steps"]

# The reasons, in the order in which they are looked for.
BAD_JSON = "bad_json"  # not one strict JSON object
NO_SOURCE = "no_source"  # the field that names the source is missing or no text
NO_ROLLOUT_ID = "no_rollout_id"  # a step that names no rollout, or an id that is blank, no text, no integer
BAD_STEP_INDEX = "bad_step_index"  # not an integer from 0 on
NO_IMAGE = "no_image"
NO_QUESTION = "no_question"
NO_STEPS = "no_steps"
EMPTY_STEP = "empty_step"
BAD_SCORE = "bad_score"  # missing, not a number, not finite or outside [0, 1]
MARKER_IN_TEXT = "marker_in_text"  # the text holds the reward marker itself
DUPLICATE_STEP = "duplicate_step"  # two records claim one step of a rollout
MISSING_STEP = "missing_step"  # a gap in the step indices
CONFLICTING_ROLLOUT = "conflicting_rollout"  # a rollout's records disagree on image, question or source

_MAX_INT32 = 2**31 - 1


@dataclass(frozen=True)
class Rollout:
    """One usable rollout with its text."""

    rollout_id: str
    image: str | list[str]  # as in the record
    question: str  # question_orig or else question, stripped
    steps: tuple[str, ...]  # stripped
    scores: tuple[float, ...]  # in [0, 1], one a step
    mc_correct: tuple[int, ...] | None  # K, one a step
    mc_total: tuple[int, ...] | None  # N, one a step

    @property
    def images(self) -> tuple[str, ...]:
        """The image names, in order."""
        return (self.image,) if isinstance(self.image, str) else tuple(self.image)


Count = Annotated[int, msgspec.Meta(ge=0, le=_MAX_INT32)]


class UncountedStep(msgspec.Struct, gc=False):
    """A step inside a record of the rollouts layout, its MC counts left aside."""

    step: str
    score: float

    @property
    def num_mc_correct(self) -> None:
        """No count."""

    @property
    def num_mc_total(self) -> None:
        """No count."""


class ScoredStep(msgspec.Struct, gc=False):
    """A step inside a record of the rollouts layout."""

    step: str
    score: float
    num_mc_correct: int | None = None  # of any size: checking it here would slow every step
    num_mc_total: int | None = None


class RolloutRecord(msgspec.Struct, gc=False):
    """A record of the rollouts layout: one rollout."""

    image: str | list[str]
    steps_with_score: list[ScoredStep]
    question: str | None = None
    question_orig: str | None = None
    rollout_id: str | int | None = None


class UncountedRolloutRecord(RolloutRecord, gc=False):
    """A record of the rollouts layout, its MC counts left aside."""

    steps_with_score: list[UncountedStep]  # type: ignore[assignment]


class StepRecord(msgspec.Struct, gc=False):
    """A record of the steps layout: one step."""

    rollout_id: str | int
    step_index: Count
    step: str
    score: float | None = None
    num_mc_correct: Any = None
    num_mc_total: Any = None
    image: str | list[str] | None = None
    question: str | None = None
    question_orig: str | None = None


RECORD_FIELDS = frozenset({*RolloutRecord.__struct_fields__, *StepRecord.__struct_fields__})


def record_decoder(layout: Layout, source_field: str | None) -> Callable[[bytes], Any]:
    """A decoder of lines into `RolloutRecord` or `StepRecord`; it raises what msgspec raises.

    With a ``source_field`` the record has one attribute more, ``source``, that the field fills.  A rollout is
    usable without MC counts, so counts that are no counts are left out rather than refused.
    """
    if layout == "steps":
        return _decoder(StepRecord, source_field).decode
    counted = _decoder(RolloutRecord, source_field).decode
    uncounted = _decoder(UncountedRolloutRecord, source_field).decode

    def decode(line: bytes) -> Any:
        try:
            return counted(line)
        except msgspec.ValidationError:
            return uncounted(line)

    return decode


def lines_decoder(layout: Layout, source_field: str | None) -> Callable[[bytes], list[Any]]:
    """A decoder of many lines at once; it raises where `record_decoder` would on any, and for odd counts."""
    return _decoder(StepRecord if layout == "steps" else RolloutRecord, source_field).decode_lines


def _decoder(record_type: type[Any], source_field: str | None) -> "msgspec.json.Decoder[Any]":
    if source_field is not None:
        source = ("source", str | None, None)
        record_type = msgspec.defstruct(
            "Record", [source], bases=(record_type,), rename={"source": source_field}, gc=False
        )
    return msgspec.json.Decoder(record_type)


def question_of(question_orig: str | None, question: str | None) -> str:
    """The question's text: ``question_orig`` or else ``question``, stripped."""
    return (question_orig or question or "").strip()


def images_of(image: str | list[str] | None) -> list[str]:
    """The image names of a record, none where any is blank."""
    if not image:
        return []
    images = [image] if isinstance(image, str) else image
    return images if all(name.strip() for name in images) else []


def step_reason(text: str, score: float | None) -> str | None:
    """Why a typed step spoils its rollout, or None where it does not."""
    if not text.strip():
        return EMPTY_STEP
    if score is None or not 0.0 <= score <= 1.0:
        return BAD_SCORE
    if MARKER in text:
        return MARKER_IN_TEXT
    return None


def rollout_reason(record: RolloutRecord) -> str | None:
    """Why a typed rollout is not usable, or None where it is."""
    if record.rollout_id == "":
        return NO_ROLLOUT_ID
    if not images_of(record.image):
        return NO_IMAGE
    question = question_of(record.question_orig, record.question)
    if not question:
        return NO_QUESTION
    if not record.steps_with_score:
        return NO_STEPS
    for step in record.steps_with_score:
        # Spelled out beside `step_reason`: this is the hottest line of a scan.
        if not (0.0 <= step.score <= 1.0 and step.step.strip()) or MARKER in step.step:
            return step_reason(step.step, step.score)
    return MARKER_IN_TEXT if MARKER in question else None


def step_counts(record: StepRecord | ScoredStep | UncountedStep) -> tuple[int, int] | None:
    """(K, N) of a step, or None where they are missing or not 0 ≤ K ≤ N < 2³¹."""
    correct, total = record.num_mc_correct, record.num_mc_total
    if type(correct) is int and type(total) is int and 0 <= correct <= total <= _MAX_INT32:
        return correct, total
    return None


def step_score(record: StepRecord) -> float | None:
    """The step's score, or K/N where only the two counts are given, or None."""
    if record.score is not None:
        return record.score
    counts = step_counts(record)
    return counts[0] / counts[1] if counts and counts[1] else None


@dataclass(frozen=True)
class Refusal:
    """Why no typed struct took a line, and what of it can be told all the same."""

    reason: str
    source: str | None = None  # what the source field says
    rollout_id: str | None = None


def diagnose(line: bytes, layout: Layout, source_field: str | None) -> Refusal:
    """The reason behind a line that no typed struct takes."""
    try:
        record = json.loads(line)
        json.dumps(record, ensure_ascii=False).encode()  # fails on a lone surrogate, which is no text
    except (ValueError, RecursionError):
        return Refusal(BAD_JSON)
    if not isinstance(record, dict):
        return Refusal(BAD_JSON)
    checks = _rollout_checks(record) if layout == "rollouts" else _step_checks(record)
    if source_field is not None:
        checks = [(NO_SOURCE, _is_text(record.get(source_field))), *checks]
    source = record.get(source_field) if source_field is not None else None
    rollout_id = record.get("rollout_id")
    return Refusal(
        # A record that is fine in itself was refused for its JSON: NaN somewhere, broken UTF-8, …
        next((reason for reason, holds in checks if not holds), BAD_JSON),
        source.strip() if isinstance(source, str) and _is_text(source) else None,
        str(rollout_id) if _is_id(rollout_id) else None,
    )


def _rollout_checks(record: dict[str, Any]) -> list[tuple[str, bool]]:
    steps = record.get("steps_with_score")
    checks = [
        (NO_ROLLOUT_ID, record.get("rollout_id") is None or _is_id(record["rollout_id"])),
        (NO_IMAGE, _is_image(record.get("image"))),
        (NO_QUESTION, _is_question(record)),
    ]
    if not isinstance(steps, list) or not steps:
        return [*checks, (NO_STEPS, False)]
    for step in steps:
        known = isinstance(step, dict)
        checks.append((EMPTY_STEP, known and _is_text(step.get("step"))))
        checks.append((BAD_SCORE, known and _is_score(step.get("score"))))
    return checks


def _step_checks(record: dict[str, Any]) -> list[tuple[str, bool]]:
    index = record.get("step_index")
    return [
        (NO_ROLLOUT_ID, _is_id(record.get("rollout_id"))),
        (BAD_STEP_INDEX, type(index) is int and 0 <= index <= _MAX_INT32),
        (NO_IMAGE, record.get("image") is None or _is_image(record["image"])),
        (NO_QUESTION, all(record.get(key) is None or isinstance(record[key], str) for key in _QUESTIONS)),
        (EMPTY_STEP, _is_text(record.get("step"))),
        (BAD_SCORE, record.get("score") is None or _is_score(record["score"])),
    ]


_QUESTIONS = ("question_orig", "question")


def _is_id(value: Any) -> bool:
    return value != "" and isinstance(value, str | int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_image(value: Any) -> bool:
    names = value if isinstance(value, list) else [value]
    return bool(names) and all(_is_text(name) for name in names)


def _is_question(record: dict[str, Any]) -> bool:
    values: Sequence[Any] = [record.get(key) for key in _QUESTIONS]
    return all(value is None or isinstance(value, str) for value in values) and any(map(_is_text, values))


def _is_score(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value <= 1.0
