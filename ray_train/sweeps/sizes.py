"""Count the rollouts that trainings select, without those that ``exclude`` leaves out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow.compute as pc

from bisieve._text import pluralize
from bisieve.errors import UsageError
from bisieve.index.exclusion import read_exclusion
from bisieve.index.reader import Index, open_part
from bisieve.index.selection import asked_parameters
from bisieve.ranking.order import selection_limits
from bisieve.ranking.strategies import strategy_of
from ray_train.config import TrainConfig
from ray_train.data.sampler import num_batches
from ray_train.sweeps.grid import Trial


@dataclass(frozen=True)
class Sizes:
    """Rollouts of an index by source, and how many of them a training selects."""

    index: Index
    rollouts: Mapping[str, int]
    all_negative: Mapping[str, int]  # of them

    @property
    def total(self) -> int:
        """Return how many rollouts are not left out."""
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


def check_counts(index: Index, trials: Sequence[Trial]) -> None:
    """Check that rollouts have the MC counts that a strategy or an objective of the trials needs.

    Raises:
        UsageError: They have none.
        IndexUnusableError: A file of the index is missing or damaged.
    """
    by_counts = [trial for trial in trials if "mc_total" in strategy_of(trial.strategy).columns]
    of_counts = [trial for trial in trials if trial.objective == "beta-binomial"]
    if not (by_counts or of_counts):
        return
    exclusion = read_exclusion(index, trials[0].train.exclude)
    rollouts = without = 0
    for part in index.files:
        with open_part(index.url, part) as file:
            rows = exclusion.without(file.read(["rollout_id", "mc_total"], use_threads=False))
            rollouts, without = rollouts + rows.num_rows, without + rows["mc_total"].null_count
    for share, needing, is_lacking in (
        ("all", by_counts, without > 0), ("some", of_counts, without == rollouts),
    ):  # fmt: skip
        if needing and is_lacking:
            raise UsageError(
                f"num_mc_correct and num_mc_total of {share} rollouts for the trial {needing[0].name}",
                f"{pluralize(without, 'rollout')} without",
                "leave out what needs them",
            )
