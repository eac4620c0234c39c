"""The training loop that runs in every Ray Train worker.

    feed ──micro-batches──▶ forward, backward ──▶ (all ranks agree) ──▶ update ──▶ checkpoint … ──▶ publish

Errors that are the user's to mend end all ranks together and come back as the result: Ray would take
an exception for a crash and start the workers again, only to meet the same error.
"""

import os
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray.train.torch
import torch.distributed as dist

from bisieve.cut import Cut, read_cut
from bisieve.errors import BisieveError, TrainingError
from bisieve.index import open_index
from bisieve.storage import join
from ray_train.checkpoints.checkpoint import Cursor, SampleLog, check_identity, read_cursor, restore
from ray_train.checkpoints.claim import RUNS
from ray_train.checkpoints.keeper import Keeper
from ray_train.config import TrainConfig
from ray_train.data.data_workers import chosen_workers
from ray_train.data.encoding import make_encoder
from ray_train.data.feed import Prefetcher, RankFeed
from ray_train.data.packing import make_packer
from ray_train.data.plan import Plan
from ray_train.data.stored_image import image_reader
from ray_train.data.targets import Floats, Targets
from ray_train.estimates.model_load import model_cost
from ray_train.model.backbone import Backbone, load_backbone, train_only
from ray_train.model.kappa import KAPPA
from ray_train.model.lora import add_adapters
from ray_train.model.objective import loss_of
from ray_train.model.packed_attention import read_packs
from ray_train.model.prompt_format import PromptFormat
from ray_train.model.publish import gathered_weights, publish_model
from ray_train.model.reward import reward_model
from ray_train.run.agreement import check_agreed, summed, together
from ray_train.run.engine import learning_rate, make_engine, training_dtype
from ray_train.run.guards import Guard, Watched, remembered
from ray_train.run.notice import Notices, preempted
from ray_train.run.pulse import Pulse
from ray_train.run.seeds import fix_seeds, make_deterministic
from ray_train.run.validation import VALIDATION, validate, validation_feed
from ray_train.tracking.throughput import Meter
from ray_train.tracking.trackers import Trackers, started_trackers

TOTALS = ("loss", "weight", "steps", "rollouts", "shortened", "skipped")  # summed over all ranks


@dataclass(frozen=True)
class Job:
    """All that the driver tells a worker; plain data."""

    config: TrainConfig
    plan: Plan
    identity: dict[str, Any]  # what makes two runs the same run
    card: dict[str, Any]  # lineage, for the model's card
    weights: Floats  # float64 [rows of the cut], of each rollout
    board: Any  # actor handle for progress lines


@dataclass(frozen=True)
class Outcome:
    """What a worker gives back."""

    error: BisieveError | None = None
    metrics: dict[str, float] = field(default_factory=dict)


def train_worker(settings: dict[Any, Any]) -> Outcome:
    """One rank of a training run; ``settings["job"]`` is a `Job`."""
    job: Job = settings["job"]
    pulse = Pulse(job.board, dist.get_rank(), job.config.stuck_after)
    try:
        return _Worker(job, pulse).run()
    except BisieveError as error:  # all ranks have it, see `agreement`
        return Outcome(error)
    finally:
        pulse.end()


class _Worker:
    def __init__(self, job: Job, pulse: Pulse) -> None:
        self.job, self.pulse, self.notices = job, pulse, Notices()
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.device = ray.train.torch.get_device()
        if job.config.deterministic:
            make_deterministic()
        fix_seeds(job.config.seed)  # new weights are the same on all ranks
        backbone, cut, self.format = together(self._prepare)
        self.backbone: Backbone = backbone
        self.cut: Cut = cut
        self.cost = model_cost(backbone)
        self.has_kappa = job.config.objective == "beta-binomial"
        self.targets = Targets(cut.rows, job.weights, job.config.objective, job.config.label_threshold)
        self.loss = loss_of(job.config)
        self.guard = Guard(
            cut.rows["rollout_id"], join(job.config.output, RUNS, str(job.card["run"])),
            job.config.explode_above, job.config.clip, self.rank,
        )  # fmt: skip
        self.engine = make_engine(reward_model(backbone, self.format, self.has_kappa), job.config)
        self.cursor = self._start_or_resume()
        check_agreed(job.plan.facts() | {"step to start from": self.cursor.step})

    def _prepare(self) -> tuple[Backbone, Cut, PromptFormat]:
        config = self.job.config
        cut = read_cut(open_index(config.index), config.fraction)
        if cut.fingerprint != self.job.plan.cut_fingerprint:
            raise TrainingError("the index of the start of the run", "a newer one", "start the run again")
        backbone = load_backbone(config.backbone, training_dtype(config.precision), config.image_backend)
        train_only(backbone.model, backbone.family, config.trained_parts)
        if config.lora_rank:
            add_adapters(backbone, config)
        if config.pack_tokens:
            read_packs(backbone.model)
        slot = backbone.family.image_slot(backbone.processor.tokenizer)
        options = backbone.family.image_options(config.max_tiles)
        return backbone, cut, PromptFormat(slot, options, config.image_backend)

    def _start_or_resume(self) -> Cursor:
        self.keeper = Keeper(self.job.config, str(self.job.card["run"]), self._say)
        checkpoint = self.keeper.newest()
        if checkpoint is None:
            self.log = SampleLog(self.rank, 0)
            return Cursor(self.job.identity)
        cursor = together(lambda: read_cursor(checkpoint))
        check_identity(cursor.identity, self.job.identity, "the checkpoint")
        restore(self.engine, checkpoint)
        self.log = SampleLog(self.rank, cursor.step)
        together(lambda: self.log.carry_over(checkpoint) if self.rank == 0 else None)
        self._say(f"resumed at step {cursor.step} of {self.job.plan.total_steps}")
        return cursor

    def run(self) -> Outcome:
        config, plan, cursor = self.job.config, self.job.plan, self.cursor
        feed = self._feed()
        trackers: Trackers = together(lambda: started_trackers(self.job, self.rank, cursor.step, self._say))
        held_out = validation_feed(feed) if plan.held_out else None
        prefetcher = Prefetcher(feed.batches(cursor.step), feed.filler())
        self.meter = Meter(self.cost, config.peak_flops, self.device, prefetcher)
        try:
            while cursor.step < plan.total_steps:
                cursor.metrics = self._step(prefetcher)
                if held_out and (cursor.step % config.validate_every == 0 or cursor.step == plan.total_steps):
                    found = validate(self.engine, held_out, self.loss, config.label_threshold, self.device)
                    cursor.metrics |= found.metrics()
                    self._say(f"validation after step {cursor.step}: {found}")
                trackers.add(cursor.step, cursor.metrics)
                if cursor.step % config.log_every == 0 or cursor.step == plan.total_steps:
                    self._say(_line(cursor.step, plan.total_steps, cursor.metrics))
                at_the_end = cursor.step == plan.total_steps
                if cursor.step % config.checkpoint_every == 0 or at_the_end or self.notices.save:
                    self.keeper.keep(self.engine, self.cursor, self.log)
                    trackers.commit()
                if self.notices.stop and not at_the_end:
                    self.keeper.settle()
                    raise preempted(cursor.step, plan.total_steps)
        finally:
            self.log.close()
            prefetcher.close()
            trackers.close(finished=cursor.step == plan.total_steps)
        self.keeper.settle()
        return self._publish()

    def _feed(self) -> RankFeed:
        config = self.job.config
        encoder = make_encoder(self.backbone, self.format, config.max_length)
        packer = make_packer(self.backbone, encoder, config.pack_tokens) if config.pack_tokens else None
        local_ranks = ray.train.get_context().get_local_world_size()
        workers = chosen_workers(config.data_workers, len(os.sched_getaffinity(0)), local_ranks)
        images = together(lambda: image_reader(config.image_root, config.image_cache_gb))
        return RankFeed(
            self.cut, self.job.plan, encoder, packer, images, self.targets,
            config.micro_batch, self.rank, self.world_size, workers,
        )  # fmt: skip

    def _step(self, prefetcher: Prefetcher) -> dict[str, float]:
        """One optimizer step on one global batch; the gradient is that of one process seeing all of it."""
        self.meter.start()
        step, plan = self.cursor.step, self.job.plan
        self.pulse.step = step
        batch_rows = plan.batch(step)
        # From the index, so the same on any number of ranks; steps that the length limit cuts off count, too.
        # Where a batch has nothing to learn from, its loss is 0, whatever it is divided by.
        weight_of_batch = float(self.targets.mass[batch_rows].sum()) or 1.0
        totals = dict.fromkeys(TOTALS, 0.0)
        trained_rows: list[int] = []
        watched = Watched(step, batch_rows.tolist(), [])
        fix_seeds(self.job.config.seed, self.rank, step)
        for ready, is_last in prefetcher.step(self.device):
            self.meter.add(ready)
            batch = ready.to(self.device)
            self.engine.set_gradient_accumulation_boundary(is_last)
            loss = self.loss(self.engine(batch.inputs), batch)
            # DeepSpeed takes the mean over the ranks; the loss is a sum over the steps.
            self.engine.backward(loss * (self.world_size / weight_of_batch), scale_wrt_gas=False)
            watched.add(float(loss.detach()), batch.rows)
            totals["loss"] += float(loss.detach())
            totals["weight"] += float(batch.weights.sum())
            totals["steps"] += int((batch.weights > 0).sum())
            totals["rollouts"] += len(batch.rows)
            totals["shortened"] += batch.shortened
            totals["skipped"] += batch.skipped
            trained_rows += batch.rows
        totals = summed(totals | self.notices.counts(), prefetcher.error, self.device)
        self.notices.take(totals)
        mean_loss = totals["loss"] / (totals["weight"] or 1.0)
        self.guard.check_loss(mean_loss, watched)
        rate = learning_rate(step, plan.total_steps, self.job.config)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
        self.engine.step()
        norm = float(self.engine.get_global_grad_norm() or 0.0)
        self.guard.check_gradient(mean_loss, norm, self.cursor.norms, watched)
        self.cursor.norms = remembered(norm, self.cursor.norms)
        self.log.add(
            step,
            trained_rows,
            self.cut.rows["rollout_id"].take(pa.array(trained_rows, pa.int64())).to_pylist(),
            mean_loss,
        )
        self.cursor.step += 1
        for name, value in totals.items():
            self.cursor.totals[name] = self.cursor.totals.get(name, 0.0) + value
        return {
            "loss": mean_loss,
            "learning_rate": rate,
            "gradient_norm": norm,
            **self.meter.read(),
        }

    def _publish(self) -> Outcome:
        model = self.engine.module
        weights = gathered_weights(model.backbone, self.rank)
        kappa = gathered_weights(model.kappa, self.rank) if self.has_kappa else {}
        totals = self.cursor.totals
        final = {
            "loss": self.cursor.metrics["loss"],
            "mean_loss": totals["loss"] / (totals["weight"] or 1.0),
            **{name: totals[name] for name in TOTALS if name != "loss"},
            **{name: value for name, value in self.cursor.metrics.items() if name in VALIDATION},
        }
        if self.rank == 0:
            card = self.job.card | {"prompt_format": self.format.to_json(), "metrics": final}
            card["token_ids"] = {
                token: self.backbone.token_id(token)
                for token in (self.format.marker, self.format.positive, self.format.negative)
            }
            if kappa:
                card["kappa"] = KAPPA
            publish_model(self.backbone, weights, card, self.job.config.output, kappa)
        return Outcome(metrics=final)

    def _say(self, line: str) -> None:
        if self.rank == 0 and self.job.board is not None:
            self.job.board.put.remote(line)


def _line(step: int, total: int, metrics: dict[str, float]) -> str:
    return (
        f"step {step:>{len(str(total))}}/{total}  loss {metrics['loss']:.4f}"
        f"  lr {metrics['learning_rate']:.2e}  grad {metrics['gradient_norm']:.3f}"
        f"  {metrics['rollouts_per_second']:.0f} rollouts/s"
    )
