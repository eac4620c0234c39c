"""Loss and macro-F1 on the held-out prompts, on which the run never trains (`sampler.validation_split`)."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from bisieve._text import pluralize
from ray_train.data.loader import Prefetcher, RankLoader
from ray_train.data.sampler import BatchPlan
from ray_train.distributed.collectives import all_reduce_sum
from ray_train.model.reward import Loss, step_rewards
from ray_train.training.validation_interval import PromptCounts, macro_f1_interval, step_owners

VALIDATION = ("validation_loss", "validation_f1")  # names of the two among the metrics of a step
INTERVAL = ("validation_f1_low", "validation_f1_high")  # and of the ends of the interval of the second
_THRESHOLD = 0.5  # P(Yes) from which a step is predicted right; fixed, not tuned on the held-out prompts


@dataclass(frozen=True)
class Validated:
    """Result of one validation: sums over all ranks, but the broken images of this rank only."""

    loss: float  # weighted mean over the steps, also where training uses another mean
    f1: float  # macro-F1 of the hard labels
    steps: int  # steps with a weight above 0
    rollouts: int
    f1_interval: tuple[float, float]  # of 95 %, over the held-out prompts
    broken: dict[str, str]  # images whose rollouts this rank left out, and why

    def metrics(self) -> dict[str, float]:
        """Return loss and F1 with its interval by their names, for trackers and checkpoints."""
        values = (self.loss, self.f1, *self.f1_interval)
        return dict(zip((*VALIDATION, *INTERVAL), values, strict=True))

    def __str__(self) -> str:
        size = f"{pluralize(self.steps, 'step')} of {pluralize(self.rollouts, 'rollout')}"
        return f"loss {self.loss:.4f}  macro-F1 {self.f1:.4f}  ({size})"


def validation_plan(plan: BatchPlan) -> BatchPlan:
    """Return a plan of one epoch over the held-out rows of ``plan``, in batches of its global size."""
    others = np.setdiff1d(np.arange(plan.num_rows), plan.held_out)
    return replace(
        plan, left_out=tuple(others.tolist()), held_out=(), epochs=1, prompts_together=True, drop_last=False
    )


def validation_loader(loader: RankLoader) -> RankLoader:
    """Return a loader of this rank's share of the held-out rows of the plan of ``loader``.

    The loss weights are those of the plain mean over a batch's steps, also where training uses another mean.
    """
    # A tokenizer can serve one thread only, and the thread of the training loader goes on reading ahead.
    encoder = replace(loader.encoder, processor=copy.deepcopy(loader.encoder.processor))
    packer = loader.packer and replace(loader.packer, reader=replace(loader.packer.reader, encoder=encoder))
    targets = replace(loader.targets, loss_mean="batch")
    return replace(loader, plan=validation_plan(loader.plan), targets=targets, encoder=encoder, packer=packer)


@torch.no_grad()
def validate(
    engine: Any, loader: RankLoader, loss: Loss, label_threshold: float, device: torch.device
) -> Validated:
    """Compute loss and macro-F1 over the held-out rows; all ranks must call this together.

    The model is in evaluation mode meanwhile, and in training mode afterwards.

    Args:
        engine: DeepSpeed's engine around the reward model.
        loader: This rank's loader, from `validation_loader`.
        loss: The loss function of the run's objective.
        label_threshold: A step is right if its label (hard or soft) is above this. It is predicted right if
            its reward is 0.5 or more.
        device: The device of this rank.

    Raises:
        BisieveError: Reading or preparing rollouts failed on any rank; raised on all ranks.
    """
    sums = dict.fromkeys(
        ("loss", "weight", "steps", "rollouts", "hit", "miss", "false_alarm", "rejected"), 0.0
    )
    of_prompts = PromptCounts()
    questions = loader.selection.rows["question_id"]
    broken: dict[str, str] = {}
    prefetcher = Prefetcher(loader.batches(0), loader.filler())
    engine.eval()
    try:
        for _ in range(loader.plan.total_steps):
            for ready, _ in prefetcher.step(device):
                batch = ready.to(device)
                answers = engine(batch.inputs)
                sums["loss"] += float(loss(answers, batch))
                sums["weight"] += float(batch.weights.sum())
                sums["rollouts"] += len(batch.rows)
                broken |= batch.broken
                counts = batch.weights > 0
                right, found = batch.labels > label_threshold, step_rewards(answers) >= _THRESHOLD
                sums["steps"] += int(counts.sum())
                sums["hit"] += int((counts & right & found).sum())
                sums["miss"] += int((counts & right & ~found).sum())
                sums["false_alarm"] += int((counts & ~right & found).sum())
                sums["rejected"] += int((counts & ~right & ~found).sum())
                owners = np.where(counts.cpu().numpy(), step_owners(batch), -1)
                prompts = questions.take(pa.array(batch.rows, pa.int64())).to_pylist()
                of_prompts.add(prompts, owners, right.cpu().numpy(), found.cpu().numpy())
        drawn = {f"drawn {place}": value for place, value in enumerate(of_prompts.drawn().ravel().tolist())}
        sums = all_reduce_sum(sums | drawn, prefetcher.error, device)
    finally:
        engine.train()
        prefetcher.close()
    f1 = counted_macro_f1(sums["hit"], sums["miss"], sums["false_alarm"], sums["rejected"])
    interval = macro_f1_interval(np.array([sums[name] for name in drawn]).reshape(-1, 4))
    mean_loss = sums["loss"] / (sums["weight"] or 1.0)
    return Validated(mean_loss, f1, int(sums["steps"]), int(sums["rollouts"]), interval, broken)


def counted_macro_f1(hit: float, miss: float, false_alarm: float, rejected: float) -> float:
    """Return `evaluation.metrics.macro_f1` from counts of steps, which ranks can sum.

    Args:
        hit: Right steps predicted right.
        miss: Right steps predicted wrong.
        false_alarm: Wrong steps predicted right.
        rejected: Wrong steps predicted wrong.
    """
    wrong_found = miss + false_alarm
    of_right = 2 * hit / max(1.0, 2 * hit + wrong_found)
    of_wrong = 2 * rejected / max(1.0, 2 * rejected + wrong_found)
    return (of_right + of_wrong) / 2
