"""What a record says, and whether its rollout is usable.

A rollout is usable when it has an image, a question, at least one step, and every step has text and a finite
score in [0, 1].  Anything else is rejected under one of the reasons below, never repaired by guessing.
Records are decoded into typed structs that name only the needed fields; `diagnosis` is asked why only where
that fails.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from bisieve.records.prompt import MARKER

# The reasons, in the order in which they are looked for.
BAD_JSON = "bad_json"  # not one strict JSON object
NO_SOURCE = "no_source"  # the field that names the source is missing or no text
NO_ROLLOUT_ID = "no_rollout_id"  # a step that names no rollout, or an id that is blank, no text, no integer
BAD_STEP_INDEX = "bad_step_index"  # not an integer from 0 on
NO_IMAGE = "no_image"
NO_QUESTION = "no_question"
NO_STEPS = "no_steps"
EMPTY_STEP = "empty_step"
BAD_SCORE = "bad_score"  # missing (K and N too), not a number, not finite or outside [0, 1]
LABEL_AS_SCORE = "label_as_score"  # true or false, which are scores only where that was asked for
MARKER_IN_TEXT = "marker_in_text"  # the text holds the reward marker itself
DUPLICATE_STEP = "duplicate_step"  # two records claim one step of a rollout
MISSING_STEP = "missing_step"  # a gap in the step indices
CONFLICTING_ROLLOUT = "conflicting_rollout"  # a rollout's records disagree on image, question or source

HINTS = {LABEL_AS_SCORE: "--labels-as-scores reads true as 1 and false as 0"}  # what a user can do

MAX_INT32 = 2**31 - 1


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


Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_INT32)]


class ScoredStep(msgspec.Struct, gc=False):
    """A step inside a record of the rollouts layout."""

    step: str
    score: float
    num_mc_correct: int | None = None  # of any size: checking it here would slow every step
    num_mc_total: int | None = None


class LooseStep(msgspec.Struct, gc=False):
    """As `ScoredStep`, with whatever stands for its score and its counts."""

    step: str
    score: Any = None
    num_mc_correct: Any = None
    num_mc_total: Any = None


class RolloutRecord(msgspec.Struct, gc=False):
    """A record of the rollouts layout: one rollout."""

    image: str | list[str]
    steps_with_score: list[ScoredStep]
    question: str | None = None
    question_orig: str | None = None
    rollout_id: str | int | None = None


class LooseRolloutRecord(RolloutRecord, gc=False):
    """A record of the rollouts layout whose steps' scores and counts are not checked yet."""

    steps_with_score: list[LooseStep]  # type: ignore[assignment]


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


def question_of(question_orig: str | None, question: str | None) -> str:
    """The question's text: ``question_orig`` or else ``question``, stripped.

    As in the paper's script one of blanks alone hides the other: such a record has no question.
    """
    return (question_orig or question or "").strip()


def images_of(image: str | list[str] | None) -> list[str]:
    """The image names of a record, none where any is blank."""
    if isinstance(image, str):
        return [image] if image.strip() else []
    return image if image and all(name.strip() for name in image) else []


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


def step_counts(record: StepRecord | ScoredStep | LooseStep) -> tuple[int, int] | None:
    """(K, N) of a step, or None where they are missing or not 0 ≤ K ≤ N < 2³¹."""
    return counts_of(record.num_mc_correct, record.num_mc_total)


def counts_of(correct: Any, total: Any) -> tuple[int, int] | None:
    """(K, N) as integers, or None where they are no counts; 3.0 is one, as other tools write them."""
    correct, total = _integral(correct), _integral(total)
    if type(correct) is int and type(total) is int and 0 <= correct <= total <= MAX_INT32:
        return correct, total
    return None


def _integral(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def step_score(record: StepRecord | LooseStep) -> Any:
    """The step's score, or K/N where only the two counts are given, or None."""
    return score_of(record.score, record.num_mc_correct, record.num_mc_total)


def score_of(score: Any, correct: Any, total: Any) -> Any:
    """``score`` as it is, or K/N where there is none but the two counts, or None."""
    if score is not None:
        return score
    counts = counts_of(correct, total)
    return counts[0] / counts[1] if counts and counts[1] else None


def is_score(value: Any, labels_as_scores: bool) -> bool:
    """Whether ``value`` is a number in [0, 1]; true and false are with ``labels_as_scores`` alone."""
    if isinstance(value, bool):
        return labels_as_scores
    return isinstance(value, int | float) and 0.0 <= value <= 1.0
