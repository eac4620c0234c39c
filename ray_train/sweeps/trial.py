"""Train and evaluate once: inside the calling process, without Ray, or with several workers by Ray.

TrainConfig ──plan_run──▶ Job ──`loop.Training`, one rank──▶ model at OUTPUT ──`Scorer`──▶ metrics

A command starts Ray, a controller, workers and data workers, half a minute in which nothing is learned. With
`run_trial` a process makes trial after trial by the same loop, optimizer and scorer, and keeps what they
share: imports, encoded prompts, the benchmark. A trial of several workers (`run_with_ray`) is the ordinary
training by Ray Train, and evaluation by Ray Data.
"""

import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from bisieve.io.disk import tidy_scratch
from ray_train.checkpoints.run_dir import store_selection
from ray_train.checkpoints.state import Cursor, SampleLog
from ray_train.compat.deepspeed import forget_process_groups
from ray_train.config import TrainConfig
from ray_train.data.packing import PromptMemory
from ray_train.distributed.fault_tolerance import PreemptionState
from ray_train.distributed.heartbeat import Pulse
from ray_train.evaluation.config import EvaluateConfig
from ray_train.evaluation.evaluate import evaluate, numbers_of
from ray_train.evaluation.preflight import checked_solutions
from ray_train.evaluation.rewards import check_finite
from ray_train.evaluation.scorer import Scorer
from ray_train.evaluation.scoring import by_prompt, digest
from ray_train.model.files import contents_of
from ray_train.model.metadata import read_card
from ray_train.model.reward import Batch
from ray_train.training.loop import Training
from ray_train.training.plan import PlannedRun, check_backbone, plan_run
from ray_train.training.worker import Job, WorkerContext, make_worker_context

_KEPT = 2  # corpora, and benchmarks, whose prompts are kept in memory

Value = TypeVar("Value")

# What trials of this process share, each by what its preparation depends on.
_prompts: dict[str, PromptMemory] = {}
_benchmarks: dict[str, list[list[Batch]]] = {}


def run_trial(train: TrainConfig, evaluation: EvaluateConfig) -> dict[str, Any]:
    """Train one model and evaluate it, in this process; nothing can be resumed.

    Call it from the main thread, as often as needed. Equal options give equal numbers in a fresh process and
    in one that has made other trials. The process becomes the only member of a process group of torch, which
    stays.

    Args:
        train: Checked and located options of a run of one worker. The model is written to ``output``, which
            nothing else may use; there are no checkpoints and no trackers.
        evaluation: Checked options with canonical URLs; its ``model`` is that output, whatever it says.
            Nothing is written.

    Returns:
        The content of ``metrics.json``, as `ray_train.evaluation.evaluate.evaluate` returns it, and

        - ``training``: ``rollouts``, ``optimizer_steps``, ``mean_loss``, ``losses`` (one per optimizer step)
          and ``seconds``,
        - ``evaluation_seconds``.

    Raises:
        BisieveError: The user must change something, such as an option or a file.
    """
    device = _device(train)
    _join_group_of_one(device)
    if not train.deterministic:
        torch.use_deterministic_algorithms(False)  # an earlier trial may have asked for it
    started = time.perf_counter()
    with tidy_scratch():
        training = _train(replace(train, zero_stage=train.zero_stage or 1), device)
    trained = time.perf_counter()
    numbers = evaluate_here(replace(evaluation, model=train.output))
    ended = time.perf_counter()
    return {
        **numbers,
        "training": {**training, "seconds": trained - started},
        "evaluation_seconds": ended - trained,
    }


def _device(config: TrainConfig) -> torch.device:
    """Return the device of this process: its GPU if it has one, unless the options ask for a CPU."""
    is_gpu = torch.cuda.is_available() and config.device != "cpu"
    return torch.device("cuda", torch.cuda.current_device()) if is_gpu else torch.device("cpu")


def _join_group_of_one(device: torch.device) -> None:
    """Make this process the only member of torch's process group, unless it is in one already."""
    if not dist.is_initialized():
        os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed asks for it
        backend = "nccl" if device.type == "cuda" else "gloo"
        store = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
        forget_process_groups()


@dataclass
class _Losses:
    """The loss of each optimizer step, in place of the trackers of a run."""

    losses: list[float] = field(default_factory=list)

    def add(self, step: int, values: dict[str, float]) -> None:
        self.losses.append(values["loss"])

    def commit(self) -> None:
        """Do nothing: there are no checkpoints."""

    def close(self, finished: bool) -> None:
        """Do nothing: the losses are in memory."""


class _NoCheckpoints:
    """In place of the checkpoints of a run: a trial starts at its beginning."""

    def newest(self) -> None:
        return None

    def keep(self, engine: Any, cursor: Cursor, log: SampleLog) -> None:
        """Do nothing."""

    def settle(self) -> None:
        """Do nothing."""


def _train(config: TrainConfig, device: torch.device) -> dict[str, Any]:
    check_backbone(config)
    run = plan_run(config)
    store_selection(run.config, run.index, run.selection)  # where a rank reads it
    job = Job(run.config, run.plan, run.identity, run.card("trial"), run.targets.weights, board=None)
    context = make_worker_context(job, device, local_ranks=1)
    context = replace(context, memory=_prompts_of(run, context))
    pulse, losses = Pulse(None, 0, 0.0), _Losses()
    try:
        training = Training(
            context, pulse, PreemptionState(lambda: False), _NoCheckpoints(), lambda step: losses
        )
        metrics = training.run().metrics
    finally:
        context.engine.destroy()
    del training, context
    gc.collect()  # the engine and its model are in cycles
    return {
        "rollouts": run.plan.rows_per_epoch,
        "optimizer_steps": run.plan.total_steps,
        "mean_loss": metrics["mean_loss"],
        "losses": losses.losses,
    }


def _prompts_of(run: PlannedRun, context: WorkerContext) -> PromptMemory:
    config = run.config
    options = (config.image_root, config.max_length, context.format)
    return _shared(_prompts, (context.contents, *options), PromptMemory)


def evaluate_here(config: EvaluateConfig) -> dict[str, Any]:
    """Evaluate a model in this process, and write nothing.

    Args:
        config: Checked and located options.

    Returns:
        The content of ``metrics.json``, as `ray_train.evaluation.evaluate.evaluate` returns it.

    Raises:
        BisieveError: The user must change something, such as an option or a file.
    """
    card = read_card(config.model)
    solutions = by_prompt(checked_solutions(config, card))
    scorer = Scorer(
        config.model, config.max_length, config.max_tiles, config.image_backend, config.risk, config.system,
        config.tokens, config.prompt,
    )  # fmt: skip
    files = card["identity"]["backbone"] if card else contents_of(config.model)
    options = (config.image_root, config.batch, scorer.encoder.max_length, scorer.encoder.format)
    parts = [solutions[start : start + config.batch] for start in range(0, len(solutions), config.batch)]
    encoded = _shared(
        _benchmarks, (files, digest(solutions), *options),
        lambda: [scorer.encode(part, config.image_root) for part in parts],
    )  # fmt: skip
    found: dict[int, list[float]] = {}
    for part, batches in zip(parts, encoded, strict=True):
        rewards = scorer.rewards_of(batches, len(part))
        found |= {solution.line: each for solution, each in zip(part, rewards, strict=True)}
    solutions = sorted(solutions, key=lambda solution: solution.line)
    in_order = [found[solution.line] for solution in solutions]
    check_finite(in_order)
    return numbers_of(config, card, scorer.encoder.format, solutions, in_order)


def _shared(kept: dict[str, Value], key: tuple[Any, ...], make: Callable[[], Value]) -> Value:
    """Return the value kept under ``key``, or else a new one; the `_KEPT` last used values are kept."""
    name = repr(key)
    kept[name] = kept.pop(name) if name in kept else make()
    for oldest in list(kept)[:-_KEPT]:
        del kept[oldest]
    return kept[name]


def run_with_ray(config: TrainConfig, evaluation: EvaluateConfig) -> dict[str, Any]:
    """Train and evaluate on the Ray that this process belongs to; a training that was stopped continues.

    Args:
        config: Options of the training, whose output all machines can reach.
        evaluation: Options of the evaluation; its model is that output.

    Returns:
        What `run_trial` returns, without the losses; ``seconds`` are those of this process alone.

    Raises:
        BisieveError: The user must change something.
    """
    from ray_train.training.driver import train  # Ray Train, which a trial in one process does not need

    started = time.perf_counter()
    train(config)
    trained = time.perf_counter()
    numbers = evaluate(evaluation)
    card = read_card(config.output, "--output")
    assert card is not None  # `train` has written it
    steps = -(-card["rollouts"] // config.global_batch) * config.epochs
    return {
        **numbers,
        "training": {
            "rollouts": card["rollouts"],
            "optimizer_steps": steps,
            "mean_loss": card["metrics"]["mean_loss"],
            "seconds": trained - started,
        },
        "evaluation_seconds": time.perf_counter() - trained,
    }
