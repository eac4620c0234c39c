"""The training loop that runs in every Ray Train worker.

    loader ──micro-batches──▶ forward, backward ──all ranks sum──▶ update ──▶ checkpoint … ──▶ publish model

A `BisieveError` (one that the user must fix) ends all ranks together, and `train_worker` returns it. Ray
would treat an exception as a crash and start the workers again, which would meet the same error. Only an
error while the model is published is one of rank 0 alone, whose result the driver gets.
"""

from collections.abc import Callable
from typing import Any, Protocol

import pyarrow as pa
import ray.train.torch
import torch.distributed as dist

from bisieve.errors import BisieveError
from bisieve.io.disk import tidy_scratch
from bisieve.io.urls import basename, join
from ray_train.checkpoints.manager import CheckpointManager
from ray_train.checkpoints.run_dir import RUNS, check_identity
from ray_train.checkpoints.state import Cursor, SampleLog, read_cursor, restore
from ray_train.data.images import newly_broken
from ray_train.data.loader import Prefetcher
from ray_train.distributed.collectives import all_reduce_sum, check_agreed, run_on_all_ranks
from ray_train.distributed.fault_tolerance import PreemptionState, preempted, show_retries
from ray_train.distributed.heartbeat import Pulse
from ray_train.estimates.throughput import Meter
from ray_train.model.reward import KAPPA, loss_of
from ray_train.model.save import gather_weights, model_texts, publish_model
from ray_train.model.serving_files import VLLM, why_not_served
from ray_train.tracking.base import started_trackers
from ray_train.training.optimizer import DivergenceGuard, StepRecord, learning_rate, recent_norms
from ray_train.training.validation import INTERVAL, VALIDATION, validate, validation_loader
from ray_train.training.worker import Job, Outcome, WorkerContext, fix_seeds, make_worker_context

# Counts of a step, summed over all ranks.
TOTALS = ("loss", "weight", "steps", "rollouts", "shortened", "skipped", "transparent", "unclear")


def train_worker(settings: dict[Any, Any]) -> Outcome:
    """Run one rank of a training; ``settings["job"]`` is a `Job`.

    Ray Train calls this in every worker. A `BisieveError` is returned in the `Outcome`, not raised.
    """
    job: Job = settings["job"]
    pulse = Pulse(job.board, dist.get_rank(), job.config.stuck_after)
    show_retries(job.board, f"rank {dist.get_rank()}")
    with tidy_scratch():
        try:
            return _of_ray(job, pulse).run()
        except BisieveError as error:  # raised on all ranks (see `collectives`), or on rank 0 by publishing
            return Outcome(error)
        finally:
            pulse.end()


def _of_ray(job: Job, pulse: Pulse) -> "Training":
    """Return the training of a worker of Ray Train; all ranks must call this together."""
    local_ranks = ray.train.get_context().get_local_world_size()
    rank = make_worker_context(job, ray.train.torch.get_device(), local_ranks)
    run = str(job.card["run"])
    checkpoints = CheckpointManager(job.config, run, rank.log, rank.resolved_options)
    return Training(
        rank, pulse, PreemptionState(), checkpoints,
        lambda step: started_trackers(job, rank.number, step, rank.log),
    )  # fmt: skip


class Checkpoints(Protocol):
    """What a training asks of its checkpoints; `CheckpointManager` describes it."""

    def newest(self) -> str | None:
        """Return the URL of the checkpoint to resume from, if there is one."""

    def keep(self, engine: Any, cursor: Cursor, log: SampleLog) -> None:
        """Begin a checkpoint."""

    def settle(self) -> None:
        """Wait until all checkpoints are committed."""


class Metrics(Protocol):
    """What a training asks of its trackers; `tracking.base.Trackers` describes it."""

    def add(self, step: int, values: dict[str, float]) -> None:
        """Take the metrics after ``step`` steps."""

    def commit(self) -> None:
        """Take note of a checkpoint."""

    def close(self, finished: bool) -> None:
        """End tracking."""


class Training:
    """One rank's part of a run, from the first step or from the last checkpoint to the published model.

    Args:
        rank: What this rank trains with.
        pulse: Tells others that this rank is alive.
        preemption: Tells whether the run must stop.
        checkpoints: Where checkpoints are kept.
        track: Starts the trackers, given the steps done so far.
    """

    def __init__(
        self,
        rank: WorkerContext,
        pulse: Pulse,
        preemption: PreemptionState,
        checkpoints: Checkpoints,
        track: Callable[[int], Metrics],
    ) -> None:
        self.rank, self.job, self.pulse, self.preemption = rank, rank.job, pulse, preemption
        self.checkpoints, self.track = checkpoints, track
        config, run = rank.job.config, str(rank.job.card["run"])
        self.identity = rank.job.identity | rank.worker_identity
        self.loss = loss_of(config)
        self.guard = DivergenceGuard(
            rank.selection.rows["rollout_id"], join(config.output, RUNS, run), config.explode_above,
            config.clip,
            rank.number,
        )  # fmt: skip
        check_agreed(self.job.plan.facts() | rank.worker_identity)
        self.cursor, self.log = self._start_or_resume()
        check_agreed({"step to start from": self.cursor.step})

    def _start_or_resume(self) -> tuple[Cursor, SampleLog]:
        rank, checkpoint = self.rank, self.checkpoints.newest()
        if checkpoint is None:
            return Cursor(self.identity), run_on_all_ranks(lambda: SampleLog(rank.number, 0))
        cursor = run_on_all_ranks(lambda: read_cursor(checkpoint))
        check_identity(cursor.identity, self.identity, "the checkpoint")
        restore(rank.engine, checkpoint)
        log = run_on_all_ranks(lambda: SampleLog(rank.number, cursor.step))
        run_on_all_ranks(lambda: log.carry_over(checkpoint) if rank.number == 0 else None)
        rank.log(f"resumed at step {cursor.step:,} of {self.job.plan.total_steps:,}")
        return cursor, log

    def run(self) -> Outcome:
        """Train to the end of the plan and publish the model; all ranks must call this together.

        Raises:
            BisieveError: The user must change something; raised on all ranks, except by publishing.
        """
        rank, config, plan, cursor = self.rank, self.job.config, self.job.plan, self.cursor
        loader = rank.loader()
        trackers = run_on_all_ranks(lambda: self.track(cursor.step))
        held_out = validation_loader(loader) if plan.held_out else None
        prefetcher = Prefetcher(loader.batches(cursor.step), loader.filler())
        self.meter = Meter(rank.cost, config.peak_flops, rank.device, prefetcher)
        try:
            while cursor.step < plan.total_steps:
                cursor.metrics = self._step(prefetcher)
                at_the_end = cursor.step == plan.total_steps
                if held_out and (cursor.step % config.validate_every == 0 or at_the_end):
                    found = validate(rank.engine, held_out, self.loss, config.label_threshold, rank.device)
                    cursor.metrics |= found.metrics()
                    if config.skip_broken_images:
                        self._note_broken(found.broken)
                    rank.log(f"validation after step {cursor.step:,}: {found}")
                trackers.add(cursor.step, cursor.metrics)
                if cursor.step % config.log_every == 0 or at_the_end:
                    rank.log(_line(cursor.step, plan.total_steps, cursor.metrics))
                if cursor.step % config.checkpoint_every == 0 or at_the_end or self.preemption.save:
                    self.checkpoints.keep(rank.engine, cursor, self.log)
                    trackers.commit()
                if self.preemption.stop and not at_the_end:
                    self.checkpoints.settle()
                    raise preempted(cursor.step, plan.total_steps, config.resume_hint)
        finally:
            self.log.close()
            prefetcher.close()
            trackers.close(finished=cursor.step == plan.total_steps)
        self.checkpoints.settle()
        return self._publish()

    def _step(self, prefetcher: Prefetcher) -> dict[str, float]:
        """Make one optimizer step on one global batch; return its metrics, equal on all ranks.

        The gradient is the one that a single process would compute from the whole batch.
        """
        self.meter.start()
        rank, engine, step, plan = self.rank, self.rank.engine, self.cursor.step, self.job.plan
        self.pulse.step = step
        batch_rows = plan.batch(step)
        # Computed from the index, so it is the same on any number of ranks; steps that the length limit cuts
        # off count, too. A batch without any step to learn from has loss 0, so the divisor 1 does not matter.
        weight_of_batch = float(rank.targets.mass[batch_rows].sum()) or 1.0
        totals = dict.fromkeys(TOTALS, 0.0)
        trained_rows: list[int] = []
        watched = StepRecord(step, batch_rows.tolist(), [])
        broken: dict[str, str] = {}
        fix_seeds(self.job.config.seed, rank.number, step)
        if rank.drop_path is not None:
            rank.drop_path.step = step
        for ready, is_last in prefetcher.step(rank.device):
            self.meter.add(ready)
            batch = ready.to(rank.device)
            engine.set_gradient_accumulation_boundary(is_last)
            loss = self.loss(engine(batch.inputs), batch)
            # The loss is a sum over this rank's steps, and DeepSpeed averages gradients over the ranks.
            engine.backward(loss * (rank.world_size / weight_of_batch), scale_wrt_gas=False)
            watched.add(float(loss.detach()), batch.rows)
            totals["loss"] += float(loss.detach())
            totals["weight"] += float(batch.weights.sum())
            totals["steps"] += int((batch.weights > 0).sum())
            totals["rollouts"] += len(batch.rows)
            totals["shortened"] += batch.shortened
            totals["skipped"] += batch.skipped
            totals["transparent"] += batch.transparent
            totals["unclear"] += batch.unclear
            trained_rows += batch.rows
            broken |= batch.broken
        fresh = float(len(broken.keys() - self.cursor.broken.keys()))
        counts = totals | self.preemption.counts() | {"broken": fresh}
        totals = all_reduce_sum(counts, prefetcher.error or self.log.error, rank.device)
        self.preemption.update(totals)
        if totals.pop("broken"):
            self._note_broken(broken)
        mean_loss = totals["loss"] / (totals["weight"] or 1.0)
        self.guard.check_loss(mean_loss, watched)
        rate = learning_rate(step, plan.total_steps, self.job.config)
        for group in engine.optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
        engine.step()
        norm = float(engine.get_global_grad_norm() or 0.0)
        self.guard.check_gradient(mean_loss, norm, self.cursor.norms, watched)
        self._count(step, totals, trained_rows, mean_loss, norm)
        return {
            "loss": mean_loss,
            "learning_rate": rate,
            "gradient_norm": norm,
            **self.meter.read(),
        }

    def _note_broken(self, broken: dict[str, str]) -> None:
        """Add the ``broken`` images of all ranks to the run's; all ranks must call this together.

        Raises:
            ImageError: The run now has more broken images than it tolerates; raised on all ranks.
        """
        most = self.job.config.skip_broken_images
        for name, why in newly_broken(broken, self.cursor.broken, most).items():
            self.cursor.broken[name] = why
            found = f"{name} ({len(self.cursor.broken)} of at most {most}): {why}"
            self.rank.log(f"left out the rollouts of broken image {found}")

    def _count(
        self, step: int, totals: dict[str, float], rows: list[int], mean_loss: float, norm: float
    ) -> None:
        ids = self.rank.selection.rows["rollout_id"].take(pa.array(rows, pa.int64())).to_pylist()
        self.log.add(step, rows, ids, mean_loss)
        self.cursor.step += 1
        self.cursor.norms = recent_norms(norm, self.cursor.norms)
        for name, value in totals.items():
            self.cursor.totals[name] = self.cursor.totals.get(name, 0.0) + value

    def _publish(self) -> Outcome:
        rank, model, totals = self.rank, self.rank.engine.module, self.cursor.totals
        weights = gather_weights(model.backbone, rank.number)
        kappa = {} if model.kappa is None else gather_weights(model.kappa, rank.number)
        final = {
            "loss": self.cursor.metrics["loss"],
            "mean_loss": totals["loss"] / (totals["weight"] or 1.0),
            # A run resumed from a checkpoint of an older version lacks the newer counts.
            **{name: totals.get(name, 0.0) for name in TOTALS if name != "loss"},
            **{
                name: value for name, value in self.cursor.metrics.items() if name in (*VALIDATION, *INTERVAL)
            },
        }
        if rank.number == 0:
            card = self.job.card | {
                "identity": self.identity, "used": rank.resolved_options,
                "prompt_format": rank.format.to_json(), "metrics": final,
            }  # fmt: skip
            card["token_ids"] = {
                token: rank.backbone.token_id(token)
                for token in (rank.format.marker, rank.format.positive, rank.format.negative)
            }
            if self.cursor.broken:
                card["broken_images"] = self.cursor.broken
            if kappa:
                card["kappa"] = KAPPA
            config, progress = self.job.config, self.pulse.mark_progress
            texts = model_texts(rank.backbone, card, basename(config.output.rstrip("/")))
            if VLLM not in texts:
                rank.log(f"no {VLLM}: {why_not_served(rank.backbone, rank.format)}")
            budget = config.storage_budget
            publish_model(rank.backbone, weights, card, config.output, kappa, texts, budget, progress)
        return Outcome(metrics=final, broken=self.cursor.broken)


def _line(step: int, total: int, metrics: dict[str, float]) -> str:
    return (
        f"step {step:>{len(f'{total:,}')},}/{total:,}  loss {metrics['loss']:.4f}"
        f"  lr {metrics['learning_rate']:.2e}  grad {metrics['gradient_norm']:.3f}"
        f"  {metrics['rollouts_per_second']:.0f} rollouts/s"
    )
