"""Loss and macro-F1 on the held-out prompts, on which the run never trains (`sampler.validation_split`).

steps of a batch ──`PromptCounts.add`──▶ counts of each prompt ──`drawn`──▶ [RESAMPLES, 4], summed over ranks

The interval of macro-F1 is a bootstrap over prompts, whose draws can be summed over ranks. How often a
resample draws a prompt follows from the prompt's id alone (Poisson, mean 1), so the interval does not depend
on the number of ranks.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
import xxhash

from bisieve._text import pluralize
from ray_train.data.loader import Prefetcher, RankLoader
from ray_train.data.sampler import BatchPlan
from ray_train.distributed.collectives import all_reduce_sum
from ray_train.model.reward import Batch, Loss, step_rewards

VALIDATION = ("validation_loss", "validation_f1")  # names of loss and macro-F1 among the metrics of a step
INTERVAL = ("validation_f1_low", "validation_f1_high")  # names of the ends of the interval of macro-F1
RESAMPLES = 400

_THRESHOLD = 0.5  # P(Yes) from which a step is predicted right; fixed, not tuned on the held-out prompts
_ENDS = (0.025, 0.975)  # quantiles: an interval of 95 %

Bools: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = Floats | float


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
    f1 = float(counted_macro_f1(sums["hit"], sums["miss"], sums["false_alarm"], sums["rejected"]))
    interval = macro_f1_interval(np.array([sums[name] for name in drawn]).reshape(-1, 4))
    mean_loss = sums["loss"] / (sums["weight"] or 1.0)
    return Validated(mean_loss, f1, int(sums["steps"]), int(sums["rollouts"]), interval, broken)


def counted_macro_f1(hit: Counts, miss: Counts, false_alarm: Counts, rejected: Counts) -> Floats:
    """Return `evaluation.metrics.macro_f1` from counts of steps, which ranks can sum; one value a resample.

    Args:
        hit: Right steps predicted right.
        miss: Right steps predicted wrong.
        false_alarm: Wrong steps predicted right.
        rejected: Wrong steps predicted wrong.
    """
    wrong_found = miss + false_alarm
    of_right = 2 * hit / np.maximum(1.0, 2 * hit + wrong_found)
    of_wrong = 2 * rejected / np.maximum(1.0, 2 * rejected + wrong_found)
    return np.asarray((of_right + of_wrong) / 2)


@dataclass
class PromptCounts:
    """Steps of each prompt by label and prediction: hits, misses, false alarms, rejected."""

    counts: dict[str, Floats] = field(default_factory=dict)  # question_id -> float64 [4]

    def add(self, prompts: Sequence[str], owners: npt.NDArray[np.int64], right: Bools, found: Bools) -> None:
        """Count steps.

        Args:
            prompts: question_id of each row of the batch.
            owners: Of each step, the place of its row in ``prompts``.
            right: Of each step, whether its label is right.
            found: Of each step, whether it is predicted right.
        """
        kind = np.where(right, np.where(found, 0, 1), np.where(found, 2, 3))
        for place, prompt in enumerate(prompts):
            counted = np.bincount(kind[owners == place], minlength=4).astype(np.float64)
            self.counts[prompt] = self.counts.get(prompt, np.zeros(4)) + counted

    def drawn(self) -> Floats:
        """Return the counts of all resamples of these prompts, float64 ``[RESAMPLES, 4]``."""
        total = np.zeros((RESAMPLES, 4))
        for prompt, counted in self.counts.items():
            seed = xxhash.xxh3_64_intdigest(prompt.encode())
            total += np.outer(np.random.default_rng(seed).poisson(1.0, RESAMPLES), counted)
        return total


def step_owners(batch: Batch) -> npt.NDArray[np.int64]:
    """Return for each marker the place of its row in ``batch.rows``; -1 for the markers of a filler."""
    kept = [steps for steps in batch.kept_steps if steps][: len(batch.rows)]
    owners = np.repeat(np.arange(len(kept)), kept)
    return np.concatenate([owners, np.full(len(batch.labels) - len(owners), -1)])


def macro_f1_interval(drawn: Floats) -> tuple[float, float]:
    """Return the interval of macro-F1 from the counts of resamples, summed over ranks; NaN without steps."""
    drawn = drawn[drawn.sum(axis=1) > 0]
    if not len(drawn):
        return np.nan, np.nan
    low, high = np.quantile(counted_macro_f1(*drawn.T), _ENDS).tolist()
    return low, high
