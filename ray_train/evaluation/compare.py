"""Compare evaluations of models on the same benchmark: every metric's difference, with its interval.

    scores.jsonl, metrics.json of A and B ──▶ the steps that both scored ──▶ paired bootstrap ──▶ Comparison

Each resample draws the same questions for both models, so what makes a question hard for both cancels out:
the interval of the difference is much narrower than the two intervals suggest. Thresholds are those of the
evaluations. Needs neither the benchmark nor the models, neither torch nor Ray.

An interval that contains 0 shows no difference, and no equality either. With a margin δ, two models are
equivalent in a metric if the interval is inside (−δ, δ): two one-sided tests (Schuirmann, 1987), each at half
of what the confidence leaves. A bootstrap cannot show what occurs in none of its questions: for two models
that agree on all of ten questions the interval is [0, 0]. So equivalence also needs enough questions to see,
with the same confidence, what occurs in a share δ of them: 3/δ at 95 % (the rule of three).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil, log
from typing import Any, TypeAlias

from bisieve._text import Report, Table, percent, pluralize
from bisieve.errors import TrainingError
from ray_train.choices import CALIBRATION, TEST
from ray_train.evaluation.bootstrap import differences, measured, plain
from ray_train.evaluation.metrics import ALL, LOWER_IS_BETTER, Measured, ScoredSteps, judged_steps
from ray_train.evaluation.scores_file import read_evaluation
from ray_train.evaluation.tables import NAMES, beats_position, ends, number

# Fields that must be equal in two evaluations: the same judgements, and the same steps reported.
SAME = {"benchmark_sha256": "--benchmark", "threshold_on": "--threshold", "seed": "--seed"}
Lengths: TypeAlias = tuple[int, ...]  # by reported solution, the number of its first steps that are compared
OF_SOURCES = ("macro_f1", "auc")  # metrics of each source in the table; the document has all
NOT_SHOWN, EQUIVALENT, TOO_FEW = "not shown", "equivalent", "too few"
# Questions below which no model is called better: a bootstrap of few is too narrow. Of two equal models, with
# normal differences, a 95 % interval misses 0 in 26 % of cases of 3 questions, 10 % of 10, and 6 % of 20.
FEW = 20


@dataclass(frozen=True)
class Comparison:
    """The metrics of two evaluations and their differences, B − A."""

    a: str  # URL of an evaluation
    b: str  # URL of the other one
    models: tuple[str, str]
    thresholds: tuple[float, float]
    threshold_on: str
    steps: int  # that are compared
    left_out: int  # steps that only one of the models scored
    confidence: float
    margin: float | None  # differences within ± this do not matter; None: not given
    questions: dict[str, int]  # by scope
    metrics: dict[str, dict[str, dict[str, Any]]]  # by scope and metric: a, b, difference, interval, verdict
    position: dict[str, dict[str, float | None]]  # by scope and metric: a guess by position, as A's has it
    beat_position: tuple[bool | None, bool | None]  # whether the AUC of A and of B is shown to be above it

    def numbers(self) -> dict[str, Any]:
        """Return the comparison as a JSON document."""
        return asdict(self)

    def report(self) -> Report:
        """Return the comparison as text for a terminal."""
        names = {ALL: "", **{source: source for source in self.metrics if source != ALL}}
        rows = [
            self._row(f"{NAMES[metric]}{f' of {name[:24]}' if name else ''}", metric, scope)
            for scope, name in names.items()
            for metric in (NAMES if scope == ALL else OF_SOURCES)
            if metric in self.metrics[scope]
        ]
        titles = [f"{self.steps:,} steps", "position", "A", "B", "B − A", percent(self.confidence), "better"]
        lines: list[str | Table] = [f"A: {self.models[0]}", f"B: {self.models[1]}", Table(titles, rows)]
        lines += self._on_verdicts() + self._on_position()
        if self.threshold_on == TEST:
            lines.append("both thresholds TUNED ON THE TEST SET: F1 and accuracies are too good")
        if self.left_out:
            lines.append(f"left out: {pluralize(self.left_out, 'step')} that only one of the models scored")
        return Report(*lines)

    def _row(self, title: str, metric: str, scope: str) -> list[str]:
        found = self.metrics[scope][metric]
        position = self.position[scope].get(metric)
        return [
            title, "" if position is None else number(position), number(found["a"]), number(found["b"]),
            number(found["difference"], signed=True), ends(found["interval"], signed=True),
            "" if found["interval"] is None else self._verdict(found, scope),
        ]  # fmt: skip

    def _verdict(self, found: dict[str, Any], scope: str) -> str:
        if self.questions[scope] < FEW:
            return TOO_FEW
        if found["better"]:
            return f"{found['better']} < {self.margin:g}" if found["equivalent"] else str(found["better"])
        return EQUIVALENT if found["equivalent"] else NOT_SHOWN

    def _on_verdicts(self) -> list[str]:
        found = [
            entry
            for scope, of_scope in self.metrics.items() if self.questions[scope] >= FEW
            for entry in of_scope.values()
        ]  # fmt: skip
        lines = []
        if min(self.questions.values()) < FEW:
            lines.append(f"{TOO_FEW}: fewer than {FEW} questions, of which an interval is too narrow")
        if self.margin is None:
            if any(entry["better"] is None and entry["interval"] for entry in found):
                lines.append(f"{NOT_SHOWN}: no difference is, and no equality either; see --margin")
            return lines
        few = f", and there are {least(self.margin, self.confidence):,} questions or more"
        lines += [f"{EQUIVALENT}: the interval is inside ±{self.margin:g}{few}"]
        if any(entry["better"] and entry["equivalent"] for entry in found):
            lines.append(f"< {self.margin:g}: better, but by less than the margin")
        return lines

    def _on_position(self) -> list[str]:
        """Say so if a model does not beat the position of a step, as its differences mean little then."""
        beaten = [name for name, beats in zip("AB", self.beat_position, strict=True) if beats is False]
        if not beaten:
            return []
        said = "neither A nor B beats" if len(beaten) == 2 else f"{beaten[0]} does not beat"
        return [
            f"{said} a guess by the position of a step alone (column position) in AUC: "
            f"nothing shows that {'they have' if len(beaten) == 2 else 'it has'} learned to judge steps"
        ]


def compare_evaluations(a: str, b: str, confidence: float = 0.95, margin: float | None = None) -> Comparison:
    """Compare two evaluations of ``bisieve evaluate``.

    Args:
        a: URL of the folder of an evaluation, or of its ``metrics.json``.
        b: That of the other one.
        confidence: Of the intervals, in (0, 1).
        margin: Differences of a metric within ± this do not matter, in (0, 1); None: nothing is called
            equivalent.

    Raises:
        TrainingError: They are of different benchmarks or protocols, or a file is not of this version.
        StorageError: A file cannot be read.
    """
    return compare_with_each(a, [b], confidence, margin)[0]


def compare_with_each(
    a: str, others: Sequence[str], confidence: float = 0.95, margin: float | None = None
) -> list[Comparison]:
    """Compare several evaluations with one, which is measured again only where other steps are compared.

    Args:
        a: URL of an evaluation, as of `compare_evaluations`.
        others: URLs of the other ones.
        confidence: Of the intervals, in (0, 1).
        margin: As of `compare_evaluations`.

    Returns:
        The comparisons, in the order of ``others``.

    Raises:
        TrainingError: As `compare_evaluations`.
        StorageError: A file cannot be read.
    """
    first = _Evaluation(a)
    return [_compared(first, _Evaluation(other), confidence, margin) for other in others]


class _Evaluation:
    """A written evaluation, to be measured on the steps that another one has scored, too."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.numbers, scored = read_evaluation(url)
        self.reported = [each for each in scored if each.reported]
        self._measured: tuple[Lengths, tuple[Measured, Measured]] | None = None

    def steps(self, lengths: Lengths) -> ScoredSteps:
        """Return the judged steps among the first ``lengths`` of each reported solution."""
        rewards = [each.rewards[:kept] for each, kept in zip(self.reported, lengths, strict=True)]
        return judged_steps([each.solution for each in self.reported], rewards)

    def measured(self, lengths: Lengths, seed: int) -> tuple[Measured, Measured]:
        """Return the metrics of these steps and of their resamples, as `bootstrap.measured` does."""
        if self._measured is None or self._measured[0] != lengths:
            self._measured = lengths, measured(self.steps(lengths), self.numbers["threshold"], seed)
        return self._measured[1]


def _compared(first: _Evaluation, other: _Evaluation, confidence: float, margin: float | None) -> Comparison:
    of_a, of_b = first.numbers, other.numbers
    for name, flag in SAME.items():
        needed = name != "seed" or of_a["threshold_on"] == CALIBRATION
        if needed and of_a.get(name) != of_b.get(name):
            expected, found = f"evaluations with the same {flag}", f"{of_a.get(name)} and {of_b.get(name)}"
            if name == "benchmark_sha256":  # digests tell a reader nothing
                found = f"other solutions in {other.url} than in {first.url}"
            raise TrainingError(expected, found, f"evaluate one again with the {flag} of the other")
    if [each.solution for each in first.reported] != [each.solution for each in other.reported]:
        raise TrainingError(
            f"the same reported solutions in {first.url} and {other.url}", "others",
            "evaluate both again with this version",
        )  # fmt: skip
    scored = [
        (len(one.rewards), len(another.rewards))
        for one, another in zip(first.reported, other.reported, strict=True)
    ]
    lengths = tuple(map(min, scored))
    compared = first.steps(lengths)
    steps = len(compared)
    if not steps:
        raise TrainingError("judged steps that both models scored", "none", "evaluate them again")
    values_a, drawn_a = first.measured(lengths, of_a["seed"])
    values_b, drawn_b = other.measured(lengths, of_a["seed"])
    between = differences(values_b, drawn_b, values_a, drawn_a, confidence)
    questions = {scope: len(set(compared.questions[compared.sources == scope])) for scope in between}
    questions[ALL] = len(set(compared.questions))
    metrics = {
        scope: {
            name: {
                "a": plain(values_a[scope])[name], "b": plain(values_b[scope])[name], **found,
                "better": better(name, found["interval"], questions[scope]),
                "equivalent": is_equivalent(found["interval"], margin, questions[scope], confidence),
            }
            for name, found in of_scope.items()
        }
        for scope, of_scope in between.items()
    }  # fmt: skip
    position = {source: {"auc": entry["position_auc"]} for source, entry in of_a["sources"].items()}
    position[ALL] = {name: of_a["position_baseline"].get(name) for name in metrics[ALL]}
    return Comparison(
        first.url, other.url, (of_a["model"], of_b["model"]), (of_a["threshold"], of_b["threshold"]),
        of_a["threshold_on"], steps, sum(abs(one - another) for one, another in scored), confidence, margin,
        questions, metrics, position, (beats_position(of_a), beats_position(of_b)),
    )  # fmt: skip


def better(metric: str, interval: Sequence[float] | None, questions: int) -> str | None:
    """Return "A" or "B" if the interval of B − A shows which is better; None if it contains 0.

    Args:
        metric: Name of the metric.
        interval: Of the difference.
        questions: From which the interval is; fewer than `FEW` show nothing.
    """
    if interval is None or interval[0] <= 0 <= interval[1] or questions < FEW:
        return None
    return "B" if (interval[0] > 0) != (metric in LOWER_IS_BETTER) else "A"


def is_equivalent(
    interval: Sequence[float] | None, margin: float | None, questions: int, confidence: float
) -> bool | None:
    """Return whether a difference is shown to be inside ±``margin``; None without a margin or an interval.

    Args:
        interval: Of the difference.
        margin: In (0, 1).
        questions: From which the interval is.
        confidence: Of the interval, in (0, 1).
    """
    if interval is None or margin is None:
        return None
    return bool(-margin < interval[0] and interval[1] < margin and questions >= least(margin, confidence))


def least(margin: float, confidence: float) -> int:
    """Return how many questions are needed to call two models equivalent."""
    return ceil(-log(1 - confidence) / margin)
