"""Score a benchmark with Ray Data and report how well the rewards agree with people's judgements.

benchmark ──read──▶ solutions ──Ray Data, one model per worker──▶ rewards ──▶ metrics.json, scores.jsonl
"""

import hashlib
import json
import pickle
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import msgspec

from bisieve._text import pluralize
from bisieve.io import storage
from bisieve.io.storage import require_writable
from bisieve.io.urls import join
from ray_train.cluster import check_device, cluster, silenced_core, unwrapped, uses_gpus
from ray_train.data.image_problems import picture_notes
from ray_train.evaluation.benchmark import Solution
from ray_train.evaluation.config import EvaluateConfig
from ray_train.evaluation.preflight import checked_format, checked_solutions, refuse_decided
from ray_train.evaluation.published import published_counts, published_line
from ray_train.evaluation.report import report, table
from ray_train.evaluation.steps import judged_steps
from ray_train.model.metadata import CARD, require_kappa
from ray_train.model.prompt_format import PromptFormat
from ray_train.model.recognize import card_of, check_model
from ray_train.run_config import located

Rewards = list[list[float]]


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Evaluate a model on a benchmark.

    Writes ``metrics.json`` and ``scores.jsonl`` to ``config.output`` and prints a table.

    Returns:
        The content of ``metrics.json``.

    Raises:
        BisieveError: The user must change something, such as an option or a file. Most checks are made
            before Ray starts.
    """
    config.check()
    config = located(config)
    require_writable(config.output)
    check_device(config.device, config.workers)
    check_model(config.model, "--model")
    card = card_of(config.model)
    refuse_decided(config, card)
    if config.risk:
        require_kappa(card, config.model)
    solutions = checked_solutions(config, card)
    format = checked_format(config, card, solutions)
    print(_about(config, card, format, solutions), flush=True)
    rewards = score_solutions(config, solutions)
    unscored = sum(len(s.steps) - len(r) for s, r in zip(solutions, rewards, strict=True))
    numbers = {
        "model": config.model,
        "trained": card is not None,
        "run": card and card["run"],
        "index": card and card["identity"]["index"],
        "benchmark": config.benchmark,
        "benchmark_sha256": benchmark_digest(solutions),
        "prompt": config.prompt,
        "marker": format.marker,
        "positive": format.positive,
        "negative": format.negative,
        "risk": config.risk,
        "solutions": len(solutions),
        "published_counts": published_counts(solutions),
        "unscored_steps": unscored,
        **report(judged_steps(solutions, rewards), config.seed, config.confidence, config.threshold),
    }
    _write(config.output, numbers, solutions, rewards)
    print(table(numbers))
    if unscored:
        why = "solutions that are too long, or have a token of the prompt in the text"
        print(f"not scored: {pluralize(unscored, 'step')} of {why}")
    print(f"report: {join(config.output, 'metrics.json')}")
    return numbers


def benchmark_digest(solutions: Sequence[Solution]) -> str:
    """Return the SHA-256 of the solutions, which does not depend on the file's URL or compression.

    Returns:
        64 hexadecimal digits.
    """
    return hashlib.sha256(msgspec.json.encode(solutions)).hexdigest()


def _about(
    config: EvaluateConfig, card: dict[str, Any] | None, format: PromptFormat, solutions: Sequence[Solution]
) -> str:
    steps = sum(len(solution.steps) for solution in solutions)
    kind = f"run {card['run']}" if card else f"a model that bisieve did not train: no {CARD} beside it"
    reward = f"{format.positive!r} against {format.negative!r} at each {format.marker!r}"
    lines = [
        f"model: {config.model} ({kind})",
        f"reward: {reward}, prompt: {config.prompt}",
        f"benchmark: {pluralize(len(solutions), 'solution')}, {pluralize(steps, 'step')}",
        published_line(published_counts(solutions)),
    ]
    return "\n".join(line for line in lines if line)


def score_solutions(config: EvaluateConfig, solutions: Sequence[Solution]) -> Rewards:
    """Score all solutions with ``config.workers`` copies of the model.

    Prints notes about images, and retries of the workers.

    Returns:
        The rewards of each solution, in the order of ``solutions``: one per step, fewer if trailing steps
        exceed the length limit, none if the solution was skipped.

    Raises:
        BisieveError: A solution cannot be scored, or a worker was lost.
    """
    with cluster(config.workers) as ray, _shown_board() as board:
        from ray_train.evaluation.scorer import ScoreBatches

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        # Blocks are made here, not in Ray tasks: if the models take all CPUs, tasks would wait forever.
        rows = [{"solution": msgspec.json.encode(solution)} for solution in solutions]
        data = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // config.batch))
        scored = data.map_batches(
            ScoreBatches,
            batch_size=config.batch,
            compute=ray.data.ActorPoolStrategy(size=config.workers),
            num_cpus=1,
            num_gpus=int(uses_gpus(ray, config.device, config.workers)),
            fn_constructor_kwargs={
                "image_root": config.image_root,
                "board": board,
                "model": config.model,
                "max_length": config.max_length,
                "max_tiles": config.max_tiles,
                "risk": config.risk,
                "image_backend": config.image_backend,
                "system": config.system,
                "tokens": config.tokens,
                "prompt": config.prompt,
            },
        )
        print(f"starting {pluralize(config.workers, 'worker')}, which load the model", flush=True)
        try:
            with silenced_core():
                rows = scored.take_all()
        except Exception as error:  # Ray raises various types for a lost worker or node
            raise unwrapped(error, "the evaluation to reach its end", "run it again") from error
    for row in rows:
        if (failure := pickle.loads(row["error"])) is not None:
            raise failure
    for note in picture_notes(*(sum(row[name] for row in rows) for name in ("transparent", "unclear"))):
        print(note, flush=True)
    rewards = {row["line"]: list(row["rewards"]) for row in rows}
    return [rewards[solution.line] for solution in solutions]


def _shown_board() -> AbstractContextManager[Any]:
    from ray_train.distributed.board import shown_board  # imports Ray

    return shown_board()


def _write(output: str, numbers: dict[str, Any], solutions: Sequence[Solution], rewards: Rewards) -> None:
    lines = [
        json.dumps({"line": s.line, "data_source": s.source, "policy_model": s.policy, "rewards": r,
                    "process_correctness": s.judgements})
        for s, r in zip(solutions, rewards, strict=True)
    ]  # fmt: skip
    storage.write_bytes(join(output, "scores.jsonl"), ("\n".join(lines) + "\n").encode())
    storage.write_bytes(join(output, "metrics.json"), (json.dumps(numbers, indent=2) + "\n").encode())
