"""The training loop that runs in every Ray Train worker.

    feed ──micro-batches──▶ forward, backward ──▶ (all ranks agree) ──▶ update ──▶ checkpoint … ──▶ publish

Errors that are the user's to mend end all ranks together and come back as the result: Ray would take
an exception for a crash and start the workers again, only to meet the same error.
"""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.train.torch
import torch.distributed as dist

from bisieve.cut import Cut, read_cut
from bisieve.errors import BisieveError, TrainingError
from bisieve.index import open_index
from bisieve.storage import join
from ray_train.agreement import check_finite, summed, together
from ray_train.backbone import Backbone, load_backbone, train_only
from ray_train.checkpoint import Cursor, SampleLog, restore, saved_checkpoint
from ray_train.config import TrainConfig
from ray_train.data_workers import chosen_workers
from ray_train.encoding import make_encoder
from ray_train.engine import learning_rate, make_engine, training_dtype
from ray_train.feed import Prefetcher, RankFeed
from ray_train.packed_attention import read_packs
from ray_train.packing import make_packer
from ray_train.plan import Plan
from ray_train.progress import Curves
from ray_train.prompt_format import PromptFormat
from ray_train.publish import gathered_weights, publish_model
from ray_train.reward import reward_loss, reward_model
from ray_train.stored_image import image_reader

TOTALS = ("loss", "steps", "rollouts", "shortened", "skipped")  # summed over all ranks


@dataclass(frozen=True)
class Job:
    """All that the driver tells a worker; plain data."""

    config: TrainConfig
    plan: Plan
    identity: dict[str, Any]  # what makes two runs the same run
    card: dict[str, Any]  # lineage, for the model's card
    board: Any  # actor handle for progress lines


@dataclass(frozen=True)
class Outcome:
    """What a worker gives back."""

    error: BisieveError | None = None
    metrics: dict[str, float] = field(default_factory=dict)


def train_worker(settings: dict[Any, Any]) -> Outcome:
    """One rank of a training run; ``settings["job"]`` is a `Job`."""
    job: Job = settings["job"]
    try:
        return _Worker(job).run()
    except BisieveError as error:  # all ranks have it, see `agreement`
        return Outcome(error)


class _Worker:
    def __init__(self, job: Job) -> None:
        self.job = job
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.device = ray.train.torch.get_device()
        backbone, cut, self.format = together(self._prepare)
        self.backbone: Backbone = backbone
        self.cut: Cut = cut
        self.engine = make_engine(reward_model(backbone, self.format), job.config)
        self.cursor = self._start_or_resume()

    def _prepare(self) -> tuple[Backbone, Cut, PromptFormat]:
        config = self.job.config
        cut = read_cut(open_index(config.index), config.fraction)
        if cut.fingerprint != self.job.plan.cut_fingerprint:
            raise TrainingError("the index of the start of the run", "a newer one", "start the run again")
        backbone = load_backbone(config.backbone, training_dtype(config.precision))
        train_only(backbone.model, backbone.family, config.trained_parts)
        if config.pack_tokens:
            read_packs(backbone.model)
        slot = backbone.family.image_slot(backbone.processor.tokenizer)
        return backbone, cut, PromptFormat(slot, backbone.family.image_options(config.max_tiles))

    def _start_or_resume(self) -> Cursor:
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            self.log = SampleLog(self.rank, 0)
            return Cursor(self.job.identity)
        with checkpoint.as_directory() as name:
            folder = Path(name)
            cursor = restore(self.engine, folder, self.job.identity)
            self.log = SampleLog(self.rank, cursor.step)
            if self.rank == 0:
                self.log.carry_over(folder)
        self._say(f"resumed at step {cursor.step} of {self.job.plan.total_steps}")
        return cursor

    def run(self) -> Outcome:
        config, plan, cursor = self.job.config, self.job.plan, self.cursor
        feed = self._feed()
        folder = join(config.output, "tensorboard", str(self.job.card["run"]))
        curves = together(lambda: Curves(folder, cursor.step, self._say) if self.rank == 0 else None)
        prefetcher = Prefetcher(feed.batches(cursor.step), feed.filler())
        try:
            while cursor.step < plan.total_steps:
                cursor.metrics = self._step(prefetcher)
                if curves:
                    curves.add(cursor.step, cursor.metrics)
                if cursor.step % config.log_every == 0 or cursor.step == plan.total_steps:
                    self._say(_line(cursor.step, plan.total_steps, cursor.metrics))
                if cursor.step % config.checkpoint_every == 0 or cursor.step == plan.total_steps:
                    self._checkpoint()
                    if curves:
                        curves.commit()
        finally:
            self.log.close()
            prefetcher.close()
            if curves:
                curves.close()
        return self._publish()

    def _feed(self) -> RankFeed:
        config = self.job.config
        encoder = make_encoder(self.backbone, self.format, config.max_length)
        packer = make_packer(self.backbone, encoder, config.pack_tokens) if config.pack_tokens else None
        local_ranks = ray.train.get_context().get_local_world_size()
        workers = chosen_workers(config.data_workers, len(os.sched_getaffinity(0)), local_ranks)
        images = together(lambda: image_reader(config.image_root, config.image_cache_gb))
        return RankFeed(
            self.cut, self.job.plan, encoder, packer, images, config.label_threshold,
            config.micro_batch, self.rank, self.world_size, workers,
        )  # fmt: skip

    def _step(self, prefetcher: Prefetcher) -> dict[str, float]:
        """One optimizer step on one global batch; the gradient is that of one process seeing all of it."""
        started = time.perf_counter()
        step, plan = self.cursor.step, self.job.plan
        batch_rows = plan.batch(step)
        # From the index, so the same on any number of ranks; steps that the length limit cuts off count, too.
        steps_in_batch = int(self.cut.rows["num_steps"].take(pa.array(batch_rows)).to_numpy().sum())
        totals = dict.fromkeys(TOTALS, 0.0)
        trained_rows: list[int] = []
        for ready, is_last in prefetcher.step(self.device):
            batch = ready.to(self.device)
            self.engine.set_gradient_accumulation_boundary(is_last)
            loss = reward_loss(self.engine(batch.inputs), batch.labels, batch.weights)
            # DeepSpeed takes the mean over the ranks; the loss is a sum over the steps.
            self.engine.backward(loss * (self.world_size / steps_in_batch), scale_wrt_gas=False)
            totals["loss"] += float(loss.detach())
            totals["steps"] += float(batch.weights.sum())
            totals["rollouts"] += len(batch.rows)
            totals["shortened"] += batch.shortened
            totals["skipped"] += batch.skipped
            trained_rows += batch.rows
        totals = summed(totals, prefetcher.error, self.device)
        check_finite(totals["loss"], step, batch_rows.tolist())
        rate = learning_rate(step, plan.total_steps, self.job.config)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        self.engine.step()
        self.log.add(
            step,
            trained_rows,
            self.cut.rows["rollout_id"].take(pa.array(trained_rows, pa.int64())).to_pylist(),
        )
        self.cursor.step += 1
        for name, value in totals.items():
            self.cursor.totals[name] = self.cursor.totals.get(name, 0.0) + value
        return {
            "loss": totals["loss"] / max(1.0, totals["steps"]),
            "learning_rate": rate,
            "gradient_norm": float(self.engine.get_global_grad_norm() or 0.0),
            "rollouts_per_second": totals["rollouts"] / (time.perf_counter() - started),
        }

    def _checkpoint(self) -> None:
        with saved_checkpoint(self.engine, self.cursor, self.log, self.rank) as folder:
            checkpoint = ray.train.Checkpoint.from_directory(folder)
            ray.train.report(self.cursor.metrics, checkpoint=checkpoint)

    def _publish(self) -> Outcome:
        weights = gathered_weights(self.engine.module, self.rank)
        totals = self.cursor.totals
        final = {
            "loss": self.cursor.metrics["loss"],
            "mean_loss": totals["loss"] / max(1.0, totals["steps"]),
            **{name: totals[name] for name in TOTALS if name != "loss"},
        }
        if self.rank == 0:
            card = self.job.card | {"prompt_format": self.format.to_json(), "metrics": final}
            card["token_ids"] = {
                token: self.backbone.token_id(token)
                for token in (self.format.marker, self.format.positive, self.format.negative)
            }
            publish_model(self.backbone, weights, card, self.job.config.output)
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
