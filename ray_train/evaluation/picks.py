"""Pick the best of N responses by their step rewards, and measure how often the pick is right.

    rewards of the steps ──aggregate──▶ a score of each response ──pick──▶ one response ──▶ accuracy

Beside the picks: ``pass@1``, the mean share of right responses, which is what a random pick gives;
``majority``, the answer of most responses; ``fewest steps``, which a reward picks by that falls with the
position of a step and knows nothing else; and ``oracle``, the share of questions with any right response,
which no pick can exceed.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bisieve._text import Report, Table, percent
from ray_train.choices import AGGREGATES
from ray_train.evaluation.bootstrap import draws, interval
from ray_train.evaluation.candidates import Question, normalized
from ray_train.evaluation.metrics import Floats
from ray_train.evaluation.tables import ends, number

_SCORE: Mapping[str, Callable[[Floats], float]] = {
    "mean": lambda rewards: float(rewards.mean()),
    "min": lambda rewards: float(rewards.min()),
    "last": lambda rewards: float(rewards[-1]),
    "product": lambda rewards: float(rewards.prod()),
    "max": lambda rewards: float(rewards.max()),
}  # by name in `AGGREGATES`
PASS, MAJORITY, FEWEST, ORACLE = "pass@1", "majority", "fewest steps", "oracle"


def scores_of(rewards: Sequence[Sequence[float]], aggregate: str) -> list[float | None]:
    """Return the score of each response by one of `AGGREGATES`; None for one without a reward."""
    return [_SCORE[aggregate](np.array(each)) if len(each) else None for each in rewards]


def pick(scores: Sequence[float | None]) -> int:
    """Return the number of the best response, from 0; the first of equal ones, or of none with a score."""
    return int(np.argmax([-np.inf if score is None else score for score in scores]))


def majority(answers: Sequence[str]) -> int:
    """Return the number of the first response with the most frequent answer; empty answers do not count.

    Of several equally frequent answers it is the one that occurs first.
    """
    forms = [normalized(answer) for answer in answers]
    counts = Counter(form for form in forms if form)
    return forms.index(counts.most_common(1)[0][0]) if counts else 0


def of_fewest_steps(lengths: Sequence[int], right: Sequence[bool]) -> float:
    """Return the share of right ones among the responses with fewest steps; empty ones are left out.

    Args:
        lengths: Steps of each response.
        right: Whether it is right.
    """
    fewest = min((length for length in lengths if length), default=0)
    found = [is_right for length, is_right in zip(lengths, right, strict=True) if length == fewest]
    return sum(found) / len(found)


def accuracies(
    questions: Sequence[Question], rewards: Sequence[Sequence[Sequence[float]]]
) -> dict[str, Floats]:
    """Return by method how right it is on each question, in [0, 1], float64 ``[questions]``.

    Args:
        questions: The questions with their candidates.
        rewards: By question and response, the rewards of its steps.
    """
    found: dict[str, list[float]] = {name: [] for name in (PASS, MAJORITY, FEWEST, *AGGREGATES, ORACLE)}
    for question, of_responses in zip(questions, rewards, strict=True):
        right = question.correct
        found[PASS].append(sum(right) / len(right))
        found[MAJORITY].append(right[majority(question.answers)])
        found[FEWEST].append(of_fewest_steps([len(steps) for steps in question.responses], right))
        found[ORACLE].append(any(right))
        for aggregate in AGGREGATES:
            found[aggregate].append(right[pick(scores_of(of_responses, aggregate))])
    return {name: np.array(values, np.float64) for name, values in found.items()}


def summary(
    found: Mapping[str, Floats], keys: Sequence[str], seed: int, confidence: float
) -> dict[str, dict[str, Any]]:
    """Return by method its accuracy and the differences from three others, with intervals.

    Args:
        found: Result of `accuracies`.
        keys: The key of each question: records of the same question are drawn together.
        seed: Seed of the resamples.
        confidence: Of the intervals, in (0, 1).
    """
    names, place = np.unique(np.array(keys), return_inverse=True)
    weights = draws(len(names), seed)[:, place]  # [resamples, records]
    drawn = {name: weights @ values / weights.sum(1) for name, values in found.items()}

    def difference(name: str, other: str) -> dict[str, Any]:
        value = float(found[name].mean() - found[other].mean())
        return {"difference": value, "interval": interval(drawn[name] - drawn[other], confidence)}

    return {
        name: {
            "accuracy": float(values.mean()),
            "interval": interval(drawn[name], confidence),
            "above_pass@1": difference(name, PASS),
            "above_majority": difference(name, MAJORITY),
            "above_fewest_steps": difference(name, FEWEST),
        }
        for name, values in found.items()
    }


def table(numbers: dict[str, Any]) -> Report:
    """Format the document of `best_of.best_of` as a table, and a sentence if its pick beats no guess."""
    confidence, most = percent(numbers["confidence"]), numbers["most_responses"]
    titles = [
        f"{numbers['questions']:,} questions", "accuracy", confidence, "- pass@1", confidence, "- majority",
        confidence,
    ]  # fmt: skip
    rows = []
    for name, entry in numbers["methods"].items():
        row = [f"best of {most} by {name}" if name in AGGREGATES else name]
        row += [number(entry["accuracy"]), ends(entry["interval"])]
        for other in ("above_pass@1", "above_majority"):
            same = other == f"above_{name}"
            row += ["", ""] if same else [
                number(entry[other]["difference"], signed=True), ends(entry[other]["interval"], signed=True),
            ]  # fmt: skip
        rows.append(row)
    lines: list[str | Table] = [Table(titles, rows)]
    if numbers["methods"][ORACLE]["above_pass@1"]["difference"] == 0:
        return Report(*lines, *_nothing_to_pick(numbers["methods"][ORACLE]["accuracy"], most))
    chosen, by = numbers["methods"][numbers["aggregate"]], numbers["aggregate"]
    for other, name, against in (
        ("above_pass@1", f"than chance by {by}", PASS),
        ("above_fewest_steps", f"by {by} than the number of steps does", f"the responses with {FEWEST}"),
    ):
        found = chosen[other]["interval"]
        if found is not None and found[0] <= 0:
            lines.append(
                f"this model does not pick better {name}: the interval of the difference from {against} is "
                "not above 0"
            )
            break
    return Report(*lines)


def _nothing_to_pick(oracle: float, most: int) -> list[str]:
    """Return why all picks are alike: a choice needs a question with right and wrong responses."""
    if oracle == 0:
        return ["nothing to pick: no response is right; if some are, see --answer-pattern, or give correct"]
    if most == 1:
        return ["nothing to pick: each question has one response"]
    return ["nothing to pick: the responses to each question are all right or all wrong"]
