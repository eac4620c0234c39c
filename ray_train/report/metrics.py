"""The page of an evaluation: ``bisieve report --metrics DIR --html FILE``.

metrics.json, scores.jsonl ──▶ the reported steps ──▶ charts, and the worst mistakes with their images
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bisieve.io.urls import canonical
from bisieve.report.examples import cut
from bisieve.report.page import (
    Block,
    Card,
    Cards,
    Charts,
    Column,
    Finding,
    Findings,
    Note,
    Page,
    Section,
    Step,
    Table,
    Tile,
    Tiles,
)
from bisieve.report.reading import Images
from ray_train.evaluation.metrics import judged_steps
from ray_train.evaluation.scores_file import ScoredSolution, read_evaluation
from ray_train.evaluation.tables import ends, metric_rows, notes, number, source_rows
from ray_train.report.metrics_charts import (
    position_charts,
    reliability_charts,
    roc_chart,
    source_charts,
    threshold_chart,
)

_SHOWN = (
    ("overall_f1", "macro-F1, sources by steps"), ("pooled_macro_f1", "macro-F1, pooled"), ("auc", "AUC"),
    ("processbench_f1", "ProcessBench's F1"), ("calibration_error", "calibration error"),
)  # fmt: skip
_WORST = 12  # solutions that are shown


@dataclass(frozen=True)
class Mistake:
    """The step of a solution whose reward is furthest from its judgement."""

    solution: ScoredSolution
    step: int  # from 0
    distance: float  # of reward and judgement, in [0, 1]


def page(url: str, image_root: str | None = None) -> Page:
    """Return the page of an evaluation.

    Args:
        url: The folder, or its metrics.json.
        image_root: URL below which the images of the benchmark are; None: they are not shown.

    Raises:
        TrainingError: A file is not one of this version of ``bisieve evaluate``.
        StorageError: A file cannot be read.
    """
    numbers, solutions = read_evaluation(url)
    reported = [each for each in solutions if each.reported]
    steps = judged_steps([each.solution for each in reported], [each.rewards for each in reported])
    worst = worst_mistakes(reported)
    images = Images(canonical(image_root) if image_root else None, {})
    cards = _cards(worst, numbers["threshold"], images)
    findings = _findings(numbers) + [Finding("note", "Not shown:", f"{note}.") for note in images.notes]
    charts = {
        "Sources": source_charts(numbers),
        "Thresholds": [roc_chart(steps), threshold_chart(steps, numbers["threshold"])],
        "Rewards as probabilities": reliability_charts(steps),
        "Place of the step": position_charts(steps, numbers["threshold"]),
    }
    sections = [
        Section("Verdict", [Findings(findings), _tiles(numbers)]),
        Section("All metrics", [_table(metric_rows(numbers)), _table(source_rows(numbers))]),
        *(Section(title, [Charts(each)]) for title, each in charts.items()),
        Section("Worst mistakes", _mistakes(cards)),
    ]
    subtitle = f"{numbers['model']} on {numbers['benchmark']}, {numbers['steps']:,} judged steps"
    shown = {each.title: each.spec for group in charts.values() for each in group}
    return Page("Evaluation report", subtitle, sections, _document(numbers, shown, worst))


def worst_mistakes(solutions: Sequence[ScoredSolution]) -> list[Mistake]:
    """Return the solutions whose wrong verdicts are the most confident, the worst first."""
    found = []
    for solution in solutions:
        distances = [
            (abs(reward - (judgement > 0)), -step)
            for step, (reward, judgement, verdict) in enumerate(
                zip(solution.rewards, solution.process_correctness, solution.verdicts, strict=False)
            )
            if _is_mistake(judgement, verdict)
        ]
        if distances:
            distance, step = max(distances)
            found.append(Mistake(solution, -step, distance))
    return sorted(found, key=lambda each: (-each.distance, each.solution.line))[:_WORST]


def _is_mistake(judgement: int, verdict: bool) -> bool:
    return judgement != 0 and verdict != (judgement > 0)


def _findings(numbers: dict[str, Any]) -> list[Finding]:
    threshold, bounds, *position = notes(numbers)
    found = [
        Finding(
            "warning" if "TUNED" in threshold else "note", "Threshold:", f"{threshold.partition(' ')[2]}."
        ),
        _titled(bounds),
    ]
    if position:
        return [Finding("warning", "Not better than position.", f"{position[0]}."), *found]
    text = "the interval of its difference in AUC from a guess by position alone is above 0."
    is_known = numbers["position_baseline"]["differences"]["auc"]["interval"] is not None
    return [*([Finding("good", "Better than position:", text)] if is_known else []), *found]


def _titled(note: str) -> Finding:
    title, _, text = note.partition(": ")
    return Finding("note", f"{title.capitalize()}:", f"{text}.")


def _tiles(numbers: dict[str, Any]) -> Tiles:
    return Tiles([
        Tile(title, number(numbers[name]), note=ends(numbers["intervals"][name])) for name, title in _SHOWN
    ])  # fmt: skip


def _table(rows: list[list[str]]) -> Table:
    (first, *others), *body = rows
    return Table([Column(first), *(Column(title, "figure") for title in others)], body, is_sortable=False)


def _mistakes(cards: list[Card]) -> list[Block]:
    if not cards:
        return [Note("All verdicts on the reported steps are right.")]
    note = (
        "The colour and the number of a step are its reward. The solutions with the most confident mistakes."
    )
    return [Cards("Solutions", cards, note)]


def _cards(mistakes: Sequence[Mistake], threshold: float, images: Images) -> list[Card]:
    """Return a card for each mistake, with the images that can be read."""
    cards = []
    for mistake in mistakes:
        solution = mistake.solution
        judged = "right" if solution.process_correctness[mistake.step] > 0 else "wrong"
        reward = solution.rewards[mistake.step]
        why = f"Step {mistake.step + 1} is judged {judged}, and its reward is {reward:.3f}."
        facts = {
            "source": solution.data_source, "written by": solution.policy_model or "unknown",
            "threshold": f"{threshold:.3f}",
        }  # fmt: skip
        title, shown = f"{solution.data_source}, line {solution.line}", images.of(solution.image)
        cards.append(Card(title, facts, why, cut(solution.question), shown, [*_steps(solution)]))
    return cards


def _steps(solution: ScoredSolution) -> Iterator[Step]:
    marks = {1: "judged right", 0: "judged neutral", -1: "judged wrong"}
    for place, (text, judgement) in enumerate(zip(solution.steps, solution.process_correctness, strict=True)):
        reward = solution.rewards[place] if place < len(solution.rewards) else None
        label = "not scored" if reward is None else f"{reward:.3f}"
        is_mistake = reward is not None and _is_mistake(judgement, solution.verdicts[place])
        share = None if reward is None else min(1.0, max(0.0, reward))  # one less the risk may be negative
        yield Step(cut(text), share, label, marks[judgement], is_mistake)


def _document(
    numbers: dict[str, Any], shown: dict[str, dict[str, Any]], worst: Sequence[Mistake]
) -> dict[str, Any]:
    """Return all numbers of the page: those of metrics.json, and the data of the charts by title."""
    return {
        **numbers,
        "charts": {title: spec["data"]["values"] for title, spec in shown.items()},
        "worst_mistakes": [
            {
                "line": each.solution.line, "source": each.solution.data_source, "step": each.step + 1,
                "judgement": each.solution.process_correctness[each.step],
                "reward": each.solution.rewards[each.step],
            }
            for each in worst
        ],
    }  # fmt: skip
