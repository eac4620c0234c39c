"""Which rows of the cut every step of a run trains on, on any number of ranks."""

from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from bisieve.cut import Cut
from bisieve.order import (
    Rows,
    epoch_order,
    gathered,
    global_batch,
    num_batches,
    order_fingerprint,
    rank_share,
)
from ray_train.data.token_estimate import TokenEstimate


@dataclass(frozen=True)
class Plan:
    """The batches of a run, from what was cut, the seed and the step alone."""

    cut_fingerprint: str  # names the rows
    num_rows: int  # rows in the cut
    left_out: tuple[int, ...]  # rows that are not trained on: their images are missing
    seed: int
    epochs: int
    global_batch: int  # rollouts a step
    prompts: Rows = field(compare=False)  # int64 [num_rows], the number of each row's prompt
    prompts_together: bool  # whether the rollouts of a prompt follow one another
    held_out: tuple[int, ...] = ()  # rows that are validated on, and never trained on
    drop_last: bool = False  # whether an epoch leaves out its last batch where it is smaller
    tokens: TokenEstimate | None = field(default=None, compare=False)  # None: every rollout counts the same

    @property
    def rows_per_epoch(self) -> int:
        return self.num_rows - len(self.left_out) - len(self.held_out)

    @property
    def steps_per_epoch(self) -> int:
        if self.drop_last:  # but not the only one
            return max(self.rows_per_epoch // self.global_batch, min(1, self.rows_per_epoch))
        return num_batches(self.rows_per_epoch, self.global_batch)

    @property
    def dropped_per_epoch(self) -> int:
        """How many rows each epoch leaves out, others in each, for they do not fill a batch."""
        return max(0, self.rows_per_epoch - self.steps_per_epoch * self.global_batch)

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.epochs

    @cached_property
    def fingerprint(self) -> str:
        """Names the order of the first epoch, and so, with the seed, of all."""
        return order_fingerprint(_order(self, 0))

    def facts(self) -> dict[str, Any]:
        """What all ranks must have found alike, found anew where it is called: a pickled plan keeps none."""
        return {
            "number of steps": self.total_steps,
            "order of the rollouts": replace(self).fingerprint,
            "global batch": self.global_batch,
            "estimated tokens of the rollouts": self.tokens.fingerprint if self.tokens else "none",
        }

    def batch(self, step: int) -> Rows:
        """The rows of the global batch of ``step``, int64 ``[global_batch]``, fewer at an epoch's end."""
        epoch, index = divmod(step, self.steps_per_epoch)
        return global_batch(_order(self, epoch), index, self.global_batch)

    def share(self, step: int, rank: int, world_size: int) -> Rows:
        """The rows of the global batch of ``step`` that ``rank`` trains on, int64, all of a prompt's."""
        batch = self.batch(step)
        tokens = self.tokens or TokenEstimate.equal(self.num_rows)
        return rank_share(
            batch, self.prompts[batch], rank, world_size, tokens.shared[batch], tokens.own[batch]
        )


def prompts_of(cut: Cut) -> Rows:
    """The number of each row's prompt, int64 ``[rows]``."""
    codes = cut.rows["question_id"].combine_chunks().dictionary_encode().indices
    return np.asarray(codes, dtype=np.int64)


@lru_cache(maxsize=2)
def _order(plan: Plan, epoch: int) -> Rows:
    order = epoch_order(plan.num_rows, fingerprint=plan.cut_fingerprint, seed=plan.seed, epoch=epoch)
    order = order[~np.isin(order, np.array(plan.left_out + plan.held_out, dtype=np.int64))]
    return gathered(order, plan.prompts) if plan.prompts_together else order
