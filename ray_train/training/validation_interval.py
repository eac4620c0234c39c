"""The interval of a validation's macro-F1: a bootstrap over prompts, whose draws can be summed over ranks.

steps of a batch ──`PromptCounts.add`──▶ counts of each prompt ──`drawn`──▶ [RESAMPLES, 4], summed over ranks

How often a resample draws a prompt follows from the prompt's id alone (Poisson, mean 1), so the interval does
not depend on the number of ranks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import xxhash

from ray_train.model.reward import Batch

RESAMPLES = 400
ENDS = (0.025, 0.975)  # quantiles: an interval of 95 %

Bools: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]


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
    hit, miss, false_alarm, rejected = drawn.T
    wrong = miss + false_alarm
    f1 = (2 * hit / np.maximum(1, 2 * hit + wrong) + 2 * rejected / np.maximum(1, 2 * rejected + wrong)) / 2
    low, high = np.quantile(f1, ENDS).tolist()
    return low, high
