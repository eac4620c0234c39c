"""How many rollouts selections have, without those that ``exclude`` leaves out."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow.compute as pc

from bisieve.index.exclusion import read_exclusion
from bisieve.index.reader import Index, open_part
from bisieve.index.selection import asked_parameters
from bisieve.ranking.order import selection_limits
from ray_train.config import TrainConfig
from ray_train.data.sampler import num_batches


@dataclass(frozen=True)
class Sizes:
    """Rollouts of an index by source, and how many of them a training selects."""

    index: Index
    rollouts: Mapping[str, int]
    all_negative: Mapping[str, int]  # of them

    @property
    def total(self) -> int:
        """Rollouts that are not left out."""
        return sum(self.rollouts.values())

    def selected(self, config: TrainConfig, fraction: float | None = None) -> int:
        """Return how many rollouts a training selects.

        Args:
            config: Options of the training.
            fraction: In place of that of the options; at 1 the result is how many can be selected.
        """
        fraction = config.fraction if fraction is None else fraction
        parameters = asked_parameters(self.index, config.ranking)
        dropped = self.all_negative if parameters.all_negative == "drop" else {}
        limits = selection_limits(self.rollouts, parameters.scope, fraction, dropped)
        if parameters.scope == "global":  # all limits are equal, and count over all sources
            return max(limits.values(), default=0)
        return sum(limits.values())

    def trained(self, config: TrainConfig) -> tuple[int, int]:
        """Return how many rollouts a training has, counted in each epoch, and in how many steps."""
        rollouts = self.selected(config)
        steps = num_batches(rollouts, config.global_batch, config.drop_last)
        return rollouts * config.epochs, steps * config.epochs


def sizes_of(index: Index, exclude: str) -> Sizes:
    """Return the sizes of selections from an index.

    Args:
        index: The version to select from.
        exclude: URL of a file of ids to leave out; empty for none.

    Raises:
        UsageError: No rollout has any of the ids.
        StorageError: The file cannot be read.
        IndexUnusableError: A file of the index is missing or damaged.
    """
    exclusion = read_exclusion(index, exclude)
    if not exclusion.ids:
        names, negative = (index.sources[name].to_pylist() for name in ("source", "all_negative"))
        return Sizes(index, index.rollouts_by_source, dict(zip(names, negative, strict=True)))
    rollouts: Counter[str] = Counter()
    all_negative: Counter[str] = Counter()
    for part in index.files:
        with open_part(index.url, part) as file:
            rows = exclusion.without(file.read(["source", "rollout_id", "num_positive"], use_threads=False))
            rollouts.update(rows["source"].to_pylist())
            all_negative.update(rows.filter(pc.equal(rows["num_positive"], 0))["source"].to_pylist())
    return Sizes(index, rollouts, all_negative)
