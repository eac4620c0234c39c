"""Score a benchmark with Ray Data and report how well the rewards agree with people's judgements.

benchmark ──read──▶ solutions ──Ray Data, one model per worker──▶ rewards ──▶ metrics.json, scores.jsonl
"""

from collections.abc import Sequence
from typing import Any

from bisieve import console
from bisieve._text import pluralize
from bisieve.io.urls import join
from ray_train.choices import threshold_of
from ray_train.config_io import located
from ray_train.evaluation.benchmark import (
    Solution,
    published_counts,
    published_line,
    repeated_line,
    repeated_solutions,
)
from ray_train.evaluation.config import EvaluateConfig
from ray_train.evaluation.metrics import Rewards, judged_steps
from ray_train.evaluation.page import add_to_page
from ray_train.evaluation.preflight import checked_format, checked_model, checked_solutions
from ray_train.evaluation.report import report
from ray_train.evaluation.scores_file import write_evaluation
from ray_train.evaluation.scoring import Unfinished, digest, score_solutions, scoring_identity
from ray_train.evaluation.tables import table
from ray_train.model.metadata import CARD
from ray_train.model.prompt_format import PromptFormat
from ray_train.registry.files import METRICS


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Evaluate a model on a benchmark.

    Writes ``metrics.json`` and ``scores.jsonl`` to ``config.output`` and prints tables; adds the results to
    the README.md of a model in a local folder. An evaluation that was stopped continues, if nothing has
    changed that its rewards depend on.

    Returns:
        The content of ``metrics.json``.

    Raises:
        BisieveError: The user must change something, such as an option or a file. Most checks are made
            before Ray starts.
    """
    config.check()
    config = located(config)
    card = checked_model(config)
    solutions = checked_solutions(config, card)
    format = checked_format(config, card, solutions)
    console.status(_about(config, card, format, solutions))
    unfinished = Unfinished(config.output, scoring_identity(config, solutions, card))
    rewards = score_solutions(config, solutions, unfinished)
    numbers = numbers_of(config, card, format, solutions, rewards)
    write_evaluation(config.output, numbers, solutions, rewards)
    unfinished.remove()
    console.show(table(numbers))
    if unscored := numbers["unscored_steps"]:
        why = "solutions that are too long, or have a token of the prompt in the text"
        console.show(f"not scored: {pluralize(unscored, 'step')} of {why}")
    console.show(f"report: {join(config.output, METRICS)}")
    if line := add_to_page(config.model, numbers):
        console.show(line)
    return numbers


def numbers_of(
    config: EvaluateConfig,
    card: dict[str, Any] | None,
    format: PromptFormat,
    solutions: Sequence[Solution],
    rewards: Rewards,
) -> dict[str, Any]:
    """Return the content of ``metrics.json``.

    Args:
        config: Options of the evaluation.
        card: Content of the model's ``bisieve.json``; None for a model that bisieve did not train.
        format: The prompt format in which the model has read the solutions.
        solutions: The benchmark.
        rewards: The rewards of each solution; trailing steps may have none.

    Raises:
        TrainingError: There is no step to choose the threshold on or to report.
    """
    steps = judged_steps(solutions, rewards)
    return {
        "model": config.model,
        "trained": card is not None,
        "run": card and card["run"],
        "index": card and card["identity"]["index"],
        "benchmark": config.benchmark,
        "benchmark_sha256": digest(solutions),
        "prompt": config.prompt,
        "marker": format.marker,
        "positive": format.positive,
        "negative": format.negative,
        "risk": config.risk,
        "solutions": len(solutions),
        "published_counts": published_counts(solutions),
        "repeated_solutions": repeated_solutions(solutions),
        "unscored_steps": sum(len(s.steps) - len(r) for s, r in zip(solutions, rewards, strict=True)),
        **report(steps, config.seed, config.confidence, threshold_of(config.threshold)),
    }


def _about(
    config: EvaluateConfig, card: dict[str, Any] | None, format: PromptFormat, solutions: Sequence[Solution]
) -> str:
    steps = sum(len(solution.steps) for solution in solutions)
    kind = f" (run {card['run']})" if card else f"\n    not trained by bisieve: no {CARD} beside it"
    reward = f"{format.positive!r} against {format.negative!r} at each {format.marker!r}"
    lines = [
        f"model: {config.model}{kind}",
        f"reward: {reward}, prompt: {config.prompt}",
        f"benchmark: {pluralize(len(solutions), 'solution')}, {pluralize(steps, 'step')}",
        published_line(published_counts(solutions)),
        repeated_line(repeated_solutions(solutions)),
    ]
    return "\n".join(line for line in lines if line)
