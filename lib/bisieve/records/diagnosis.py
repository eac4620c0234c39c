"""The reason why a record cannot be decoded into a typed struct.

Records are checked field by field only here, after `decode` has failed.
"""

import json
from dataclasses import dataclass
from typing import Any

from bisieve.records.decode import in_our_form
from bisieve.records.model import (
    BAD_JSON,
    BAD_SCORE,
    BAD_STEP_INDEX,
    EMPTY_STEP,
    LABEL_AS_SCORE,
    MAX_INT32,
    NO_IMAGE,
    NO_QUESTION,
    NO_ROLLOUT_ID,
    NO_SOURCE,
    NO_STEPS,
    is_score,
    question_of,
    score_of,
)
from bisieve.records.options import SOURCE, Layout, ReadOptions


@dataclass(frozen=True)
class Refusal:
    """Reason why a record cannot be decoded, with its source and id as far as they are valid."""

    reason: str  # one of the reasons in `model`
    source: str | None = None  # stripped value of the source field; None without a source field
    rollout_id: str | None = None


def diagnose(line: bytes, layout: Layout, reading: ReadOptions, partition: str | None = None) -> Refusal:
    """Return why a line cannot be decoded; ``partition`` is its source if the record names none."""
    try:
        record = json.loads(line)
        json.dumps(record, ensure_ascii=False).encode()  # fails on a lone surrogate, which is not valid text
    except (ValueError, RecursionError):
        return Refusal(BAD_JSON)
    if not isinstance(record, dict):
        return Refusal(BAD_JSON)
    named = {} if partition is None else {SOURCE: partition}
    return diagnose_record(named | in_our_form(record, layout, reading), layout, reading)


def diagnose_record(record: dict[str, Any], layout: Layout, reading: ReadOptions) -> Refusal:
    """Return why a dict in the form of `decode.in_our_form` cannot be converted to a struct.

    A record in which every check passes gets `BAD_JSON`.
    """
    labels = reading.labels_as_scores
    checks = _rollout_checks(record, labels) if layout == "rollouts" else _step_checks(record, labels)
    source = None
    if reading.source_field is not None:
        source = record.get(SOURCE)
        checks = [(NO_SOURCE, _is_text(source)), *checks]
    rollout_id = record.get("rollout_id")
    return Refusal(
        # If all checks pass, the JSON itself was refused: NaN in another field, invalid UTF-8, …
        next((reason for reason, holds in checks if not holds), BAD_JSON),
        source.strip() if isinstance(source, str) and _is_text(source) else None,
        str(rollout_id) if _is_id(rollout_id) else None,
    )


def _rollout_checks(record: dict[str, Any], labels: bool) -> list[tuple[str, bool]]:
    """Return (reason, whether the record passes) for each check of a rollout, in order."""
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
        score = _score(step) if known else None
        checks.append((_score_reason(score), is_score(score, labels)))
    return checks


def _step_checks(record: dict[str, Any], labels: bool) -> list[tuple[str, bool]]:
    """Return (reason, whether the record passes) for each check of a step record, in order."""
    index, score = record.get("step_index"), _score(record)
    return [
        (NO_ROLLOUT_ID, _is_id(record.get("rollout_id"))),
        (BAD_STEP_INDEX, type(index) is int and 0 <= index <= MAX_INT32),
        (NO_IMAGE, record.get("image") is None or _is_image(record["image"])),
        (NO_QUESTION, all(record.get(key) is None or isinstance(record[key], str) for key in _QUESTIONS)),
        (EMPTY_STEP, _is_text(record.get("step"))),
        (_score_reason(score), score is None or is_score(score, labels)),
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
    asked, shown = (record.get(key) for key in _QUESTIONS)
    known = all(value is None or isinstance(value, str) for value in (asked, shown))
    return known and bool(question_of(asked, shown))


def _score(step: dict[str, Any]) -> Any:
    return score_of(*(step.get(name) for name in ("score", "num_mc_correct", "num_mc_total")))


def _score_reason(score: Any) -> str:
    return LABEL_AS_SCORE if isinstance(score, bool) else BAD_SCORE
