"""Run a training: check everything in the driver, then start workers with Ray Train.

    config ──checks──▶ index, selection, plan ──lease on OUTPUT──▶ Ray Train ──▶ `loop.train_worker` per rank

Ray Train owns the workers, retries them after failures and stores their checkpoints. Files of a run:

OUTPUT/
  config.json, model.safetensors, tokenizer…, bisieve.json    the trained model, once the run is finished
  run.json                 the name and identity of the run in this folder
  driver.json              the lease: which driver process writes to this folder, while one does
  image_sizes.parquet      the sizes of the selection's images, so that a repeated start need not read them
  selection.parquet        the rows that are trained on, if the index is ranked by other options
  runs/NAME/…              checkpoints, in Ray Train's layout
  tensorboard/…
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from bisieve import console
from bisieve._text import percent, pluralize
from bisieve.errors import PreemptedError
from bisieve.index.exclusion import read_exclusion
from bisieve.index.selection import Selection
from bisieve.index.statistics import index_statistics
from bisieve.io.storage import require_writable
from bisieve.io.urls import join
from bisieve.tools.selection_notes import selection_notes
from ray_train.checkpoints.lease import leased
from ray_train.checkpoints.run_dir import RUNS, claim_output, is_finished, store_selection
from ray_train.cluster import cluster, unwrapped, uses_gpus
from ray_train.config import TrainConfig
from ray_train.config_io import located
from ray_train.data.images import picture_notes
from ray_train.data.labels import Floats, describe_targets
from ray_train.data.sampler import BatchPlan
from ray_train.data.token_estimate import keep_sizes
from ray_train.estimates.device_memory import asked_before_workers, asked_with_workers
from ray_train.estimates.memory import resolve_zero_stage
from ray_train.model.files import check_weights
from ray_train.tracking.base import check_trackers
from ray_train.training.plan import PlannedRun, check_backbone, plan_run

_NEVER = 10**7  # seconds; torch's timeout must be a number


def train(config: TrainConfig) -> None:
    """Train a model, or resume the run at ``config.output``; print a summary and the progress.

    With ``config.dry_run`` only print what the run would be and cost.

    Raises:
        BisieveError: The user must change something, such as an option, a file or the machine. In this case
            no new model is visible at the output.
    """
    config.check()
    config = located(config)
    if not config.dry_run:
        require_writable(config.output)
    check_trackers(config.track)
    check_backbone(config)
    if not config.dry_run:
        check_weights(config.backbone, "--backbone")
    with _nodes(config) as nodes:
        _train(config, nodes)


@contextmanager
def _nodes(config: TrainConfig) -> Iterator[Any]:
    """Yield the nodes of the Ray cluster at ``RAY_ADDRESS``, connected until the block ends.

    Yield None, and connect to nothing, if the memory of the devices is known, or if it is compared only just
    before the workers start.
    """
    if not asked_before_workers(config):
        yield None
        return
    with cluster(config.workers.least) as ray:
        yield ray.nodes()


def _train(config: TrainConfig, nodes: Any) -> None:
    config, remarks = resolve_zero_stage(config, nodes)
    console.phase(f"planning: reading the index, and what it selects ({percent(config.fraction)})")
    run = plan_run(config)
    config, plan = run.config, run.plan
    described = describe_targets(run.targets, config.rollout_weights)
    show_run = console.show if config.dry_run else console.status  # of a dry run it is the result
    show_run(f"{_summary(config, run.selection, plan)}\n{described}")
    for remark in [*remarks, *selection_notes(run.selection, run.index), *_batch_note(config, plan)]:
        console.show(remark)
    if config.dry_run:
        from ray_train.estimates.dry_run import dry_run

        exclusion = read_exclusion(run.index, config.exclude)
        corpus, _ = index_statistics(run.index, (), config.label_threshold, exclusion)
        console.show(dry_run(config, run.selection, plan, run.targets, corpus))
        return
    outcome = None
    if not is_finished(config, run.identity):
        with leased(config.output, console.show):
            outcome = _claimed_and_fit(run)
    if outcome is None:
        console.show(f"nothing to do: this run is already finished, its model is at {config.output}")
    elif outcome.error is not None:
        raise outcome.error
    else:
        console.show(_ending(config, outcome))


def _summary(config: TrainConfig, selection: Selection, plan: BatchPlan) -> str:
    left_out = f", {len(plan.left_out):,} left out for missing images" if plan.left_out else ""
    if plan.held_out:
        left_out += f", {len(plan.held_out):,} held out for validation"
    if plan.dropped_per_epoch:
        left_out += f", {plan.dropped_per_epoch:,} an epoch dropped with its last, smaller batch"
    return (
        f"selection: {plan.rows_per_epoch:,} of {pluralize(selection.available, 'rollout')} "
        f"({plan.rows_per_epoch / selection.available:.2%}; asked for {percent(selection.fraction)})"
        f"{left_out}\n"
        f"run: {pluralize(plan.total_steps, 'step')} of {pluralize(config.global_batch, 'rollout')} "
        f"on {config.workers.words}, "
        f"ZeRO {config.zero_stage}"
    )


def _batch_note(config: TrainConfig, plan: BatchPlan) -> list[str]:
    rollouts = plan.rows_per_epoch
    if config.global_batch <= rollouts:
        return []
    return [
        f"--global-batch {config.global_batch} is larger than the selection of {rollouts:,}: a step an epoch"
    ]


def _claimed_and_fit(run: PlannedRun) -> Any:
    """Claim the output and train; return the workers' `Outcome`.

    Return None if the run is finished: another driver may have finished it before this one got the lease.
    """
    config = run.config
    name, finished = claim_output(config, run.identity)
    if finished:
        return None
    keep_sizes(config.output, config.image_root, run.sizes)
    store_selection(config, run.index, run.selection)
    return _fit(config, run.plan, run.identity, run.card(name), name, run.targets.weights)


def _fit(
    config: TrainConfig,
    plan: BatchPlan,
    identity: dict[str, Any],
    card: dict[str, Any],
    name: str,
    weights: Floats,
) -> Any:
    with cluster(config.workers.least) as ray:
        _compare_memory(config, ray.nodes)

        from ray.exceptions import RayError
        from ray.train.torch import TorchConfig
        from ray.train.v2.api.config import (
            CheckpointConfig,
            FailureConfig,
            LoggingConfig,
            RunConfig,
            ScalingConfig,
        )
        from ray.train.v2.api.exceptions import TrainingFailedError

        from ray_train.checkpoints.manager import run_storage
        from ray_train.compat.ray import Trainer
        from ray_train.distributed.fault_tolerance import (
            FailurePolicy,
            ShownRetries,
            StopOnSigterm,
            StuckRankWatchdog,
            forward_signals,
        )
        from ray_train.distributed.heartbeat import shown_board
        from ray_train.training.loop import train_worker
        from ray_train.training.worker import Job

        gpu = uses_gpus(ray, config.device, config.workers.least)
        with (
            shown_board("training", plan.total_steps) as board,
            forward_signals(board, config.resume_hint) as asked,
        ):
            after = config.stuck_after
            callbacks: list[Any] = [
                StopOnSigterm(),
                ShownRetries(board),
                *([StuckRankWatchdog(board, after, config.resume_hint)] if after else []),
            ]
            failures = FailureConfig(max_failures=config.max_failures)
            job = Job(config, plan, identity, card, weights, board)
            trainer = Trainer(
                train_worker,
                failure_policy=FailurePolicy(failures, board),
                train_loop_config={"job": job},
                torch_config=TorchConfig(
                    "nccl" if gpu else "gloo", timeout_s=int(max(1800, 2 * after)) if after else _NEVER
                ),
                scaling_config=ScalingConfig(num_workers=config.workers.for_ray, use_gpu=gpu),
                run_config=RunConfig(
                    name=name,
                    failure_config=failures,
                    checkpoint_config=CheckpointConfig(),  # keep all: `CheckpointManager` removes old ones
                    logging_config=LoggingConfig(log_level="ERROR"),
                    callbacks=callbacks,
                    **run_storage(join(config.output, RUNS)),
                ),
            )
            console.phase(f"starting {config.workers.words}")
            try:
                result: Any = trainer.fit()
            except (TrainingFailedError, RayError) as error:  # RayError: the controller died
                expected = "the workers to reach the end of the training"
                hint = f"{config.resume_hint}: training goes on from its last checkpoint"
                raise unwrapped(error, expected, hint) from error
            outcome = result.return_value
            if isinstance(outcome.error, PreemptedError):
                outcome = replace(outcome, error=asked.named(outcome.error))
            return outcome


def _compare_memory(config: TrainConfig, nodes: Callable[[], Any]) -> None:
    """Compare the model with the memory of the cluster's devices, unless `_train` has done so; print remarks.

    Raises:
        TrainingError: A device cannot hold the model.
    """
    if asked_with_workers(config):
        for remark in resolve_zero_stage(config, nodes())[1]:
            console.show(remark)


def _ending(config: TrainConfig, outcome: Any) -> str:
    metrics = outcome.metrics
    rollouts, steps, shortened = (int(metrics[name]) for name in ("rollouts", "steps", "shortened"))
    noticed = picture_notes(int(metrics["transparent"]), int(metrics["unclear"]), outcome.broken)
    return "\n".join([
        f"trained on {pluralize(rollouts, 'rollout')}, {pluralize(steps, 'step')}, "
        f"mean loss {metrics['mean_loss']:.4f}; {pluralize(shortened, 'rollout')} shortened to fit, "
        f"{metrics['skipped']:,.0f} skipped (too long, or a token of the prompt in the text)",
        *noticed,
        f"model: {config.output}",
    ])  # fmt: skip
