"""The typed structs of records, and the rules by which a rollout is usable.

A rollout is usable when it has an image, a question, at least one step, and every step has text and a finite
score in [0, 1].  Any other is rejected under one of the reasons below, and never repaired by guessing.
`decode` makes structs that have only the needed fields; if that fails, `diagnosis` finds the reason.
`rollout_reason` and `step_reason` check what the types cannot express.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from bisieve.records.prompt import MARKER

# The reasons for a rejection, in the order in which they are checked.
BAD_JSON = "bad_json"  # not one strict JSON object
NO_SOURCE = "no_source"  # the source field is missing, blank or not a string
NO_ROLLOUT_ID = "no_rollout_id"  # a step without an id, or an id that is empty or neither string nor integer
BAD_STEP_INDEX = "bad_step_index"  # not an integer from 0 to 2**31 - 1
NO_IMAGE = "no_image"
NO_QUESTION = "no_question"
NO_STEPS = "no_steps"
EMPTY_STEP = "empty_step"
BAD_SCORE = "bad_score"  # missing (K and N too), not a number, not finite or outside [0, 1]
LABEL_AS_SCORE = "label_as_score"  # true or false, which are scores only with `labels_as_scores`
MARKER_IN_TEXT = "marker_in_text"  # the text holds the reward marker itself
DUPLICATE_STEP = "duplicate_step"  # two records claim one step of a rollout
MISSING_STEP = "missing_step"  # a gap in the step indices
CONFLICTING_ROLLOUT = "conflicting_rollout"  # a rollout's records disagree on image, question or source

HINTS = {LABEL_AS_SCORE: "--labels-as-scores reads true as 1 and false as 0"}  # reason -> what a user can do

MAX_INT32 = 2**31 - 1


@dataclass(frozen=True)
class Rollout:
    """One usable rollout with its text, as the trainer and the exports read it."""

    rollout_id: str
    image: str | list[str]  # one name, or a list of names, as in the record
    question: str  # question_orig, or question if that is missing; stripped
    steps: tuple[str, ...]  # stripped
    scores: tuple[float, ...]  # in [0, 1], one per step
    mc_correct: tuple[int, ...] | None  # K, one per step; None unless every step has both counts
    mc_total: tuple[int, ...] | None  # N, one per step

    @property
    def images(self) -> tuple[str, ...]:
        """Return the image names, in order."""
        return (self.image,) if isinstance(self.image, str) else tuple(self.image)


Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_INT32)]


class ScoredStep(msgspec.Struct, gc=False):
    """Step inside a record of the rollouts layout."""

    step: str
    score: float
    num_mc_correct: int | None = None  # of any size: a range check here would slow down every step
    num_mc_total: int | None = None


class LooseStep(msgspec.Struct, gc=False):
    """Step like `ScoredStep`, whose score and counts may be missing or of any type."""

    step: str
    score: Any = None
    num_mc_correct: Any = None
    num_mc_total: Any = None


class RolloutRecord(msgspec.Struct, gc=False):
    """Record of the rollouts layout: one rollout."""

    image: str | list[str]
    steps_with_score: list[ScoredStep]
    question: str | None = None
    question_orig: str | None = None
    rollout_id: str | int | None = None


class LooseRolloutRecord(RolloutRecord, gc=False):
    """Record of the rollouts layout whose steps have unchecked scores and counts."""

    steps_with_score: list[LooseStep]  # type: ignore[assignment]


class StepRecord(msgspec.Struct, gc=False):
    """Record of the steps layout: one step."""

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
    """Return ``question_orig``, or ``question`` if that is missing or empty, stripped.

    As in the paper's script, a ``question_orig`` of spaces alone hides ``question``: the result is "", and
    the record has no question.
    """
    return (question_orig or question or "").strip()


def images_of(image: str | list[str] | None) -> list[str]:
    """Return the image names of a record as a list, empty if any of them is blank."""
    if isinstance(image, str):
        return [image] if image.strip() else []
    return image if image and all(name.strip() for name in image) else []


def step_reason(text: str, score: float | None) -> str | None:
    """Return why a step makes its rollout unusable, or None if it does not."""
    if not text.strip():
        return EMPTY_STEP
    if score is None or not 0.0 <= score <= 1.0:
        return BAD_SCORE
    if MARKER in text:
        return MARKER_IN_TEXT
    return None


def rollout_reason(record: RolloutRecord) -> str | None:
    """Return why a rollout is not usable, or None if it is."""
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
        # Repeats the checks of `step_reason` inline: this is the hottest line of a scan.
        if not (0.0 <= step.score <= 1.0 and step.step.strip()) or MARKER in step.step:
            return step_reason(step.step, step.score)
    return MARKER_IN_TEXT if MARKER in question else None


def step_counts(record: StepRecord | ScoredStep | LooseStep) -> tuple[int, int] | None:
    """Return (K, N) of a step, or None if they are missing or not 0 ≤ K ≤ N < 2³¹."""
    return counts_of(record.num_mc_correct, record.num_mc_total)


def counts_of(correct: Any, total: Any) -> tuple[int, int] | None:
    """Return (K, N) as integers, or None if they are not 0 ≤ K ≤ N < 2³¹.

    A float such as 3.0 is accepted, because other tools write counts like that.
    """
    correct, total = _integral(correct), _integral(total)
    if type(correct) is int and type(total) is int and 0 <= correct <= total <= MAX_INT32:
        return correct, total
    return None


def _integral(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def step_score(record: StepRecord | LooseStep) -> Any:
    """Return the step's score unchecked, or K/N if it has only the two counts, or None."""
    return score_of(record.score, record.num_mc_correct, record.num_mc_total)


def score_of(score: Any, correct: Any, total: Any) -> Any:
    """Return ``score`` unless it is None; then K/N if both counts are valid and N > 0, else None."""
    if score is not None:
        return score
    counts = counts_of(correct, total)
    return counts[0] / counts[1] if counts and counts[1] else None


def is_score(value: Any, labels_as_scores: bool) -> bool:
    """Return whether ``value`` is a number in [0, 1]; a bool counts only with ``labels_as_scores``."""
    if isinstance(value, bool):
        return labels_as_scores
    return isinstance(value, int | float) and 0.0 <= value <= 1.0
