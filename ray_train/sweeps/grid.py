"""The trials of a sweep, and what makes two trials the same one.

    SweepConfig, index, benchmark ──trials──▶ Trial, Trial, …    in the order in which they run

They are ordered by seed, then by fraction: whenever a sweep stops, it has whole curves of some seeds.
"""

import hashlib
import json
from dataclasses import dataclass, fields, replace
from typing import Any

from bisieve._text import percent
from bisieve.index.exclusion import read_exclusion
from bisieve.index.reader import Index
from bisieve.io.urls import canonical
from bisieve.ranking.strategies import strategy_of
from bisieve.records.options import EXCLUDE
from ray_train.choices import AS_INDEX, ineffective_options
from ray_train.config import TrainConfig
from ray_train.config_io import plain_options
from ray_train.evaluation.config import EvaluateConfig
from ray_train.model.files import known_as
from ray_train.sweeps.config import SweepConfig

ALL = "all"  # the strategy of trials on all the data: they select nothing
FORMAT = 1  # of a trial's file; another one makes other trials

# Options of a run that are not part of its own identity, as that has their effect.
_OF_SELECTION = (
    "strategy", "alpha", "threshold", "pair_share", "ties", "all_negative", "selection_seed", "system",
    "rollout_weights",
)  # fmt: skip
# Options of an evaluation that change no metric.
_OF_MACHINES = ("model", "output", "workers", "device", "batch", "benchmark", "image_root")


@dataclass(frozen=True)
class Trial:
    """One training and its evaluation."""

    strategy: str
    alpha: str  # empty if the strategy does not depend on it
    objective: str
    fraction: float
    seed: int
    train: TrainConfig
    evaluation: EvaluateConfig
    identity: dict[str, Any]  # all that decides its numbers

    @property
    def id(self) -> str:
        """Return the hash of the identity, 16 hex digits."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """Return the name for a line of progress."""
        alpha = f" α {self.alpha}" if self.alpha else ""
        return f"{self.strategy}{alpha} {percent(self.fraction)}, {self.objective}, seed {self.seed}"

    @property
    def axes(self) -> dict[str, Any]:
        """Return what distinguishes the trial from others of its sweep, by name."""
        names = ("strategy", "alpha", "objective", "fraction", "seed")
        return {name: getattr(self, name) for name in names}


def trials(config: SweepConfig, index: Index, benchmark_digest: str) -> list[Trial]:
    """Return all trials of a sweep, each once.

    Args:
        config: Options of the sweep, with canonical URLs.
        index: The version to select from.
        benchmark_digest: Hash of the solutions of the benchmark.

    Raises:
        UsageError: No rollout has any of the ids that are to be left out.
        StorageError: The backbone cannot be read.
    """
    found: dict[tuple[Any, ...], Trial] = {}
    backbone = known_as(config.backbone)
    for seed in config.seeds:
        for fraction in sorted(config.fractions):
            for objective in config.objectives:
                for strategy in config.strategies:
                    for alpha in config.alphas:
                        trial = _trial(config, index, strategy, alpha, objective, fraction, seed)
                        found.setdefault(tuple(trial.axes.values()), trial)
    of_all = {"index": index.fingerprint, "benchmark": benchmark_digest, "backbone": backbone}
    exclude = next(iter(found.values())).train.exclude
    if left_out := read_exclusion(index, exclude).left_out.digest:
        of_all[EXCLUDE] = left_out
    return [replace(trial, identity={**trial.identity, **of_all}) for trial in found.values()]


def _trial(
    config: SweepConfig, index: Index, strategy: str, alpha: str, objective: str, fraction: float, seed: int
) -> Trial:
    strategy = ALL if fraction == 1 else strategy
    if not strategy_of(strategy).uses_alpha:
        alpha = AS_INDEX
    elif alpha == AS_INDEX:
        alpha = str(index.manifest.parameters.alpha)
    train = config.train_config(strategy, alpha, objective, fraction, seed)
    exclude = canonical(train.exclude) if train.exclude else ""  # a trial runs in another folder
    train = replace(train, index_version=index.fingerprint, exclude=exclude)
    evaluation = config.evaluate_config(train)
    identity = {
        "format": FORMAT,
        "train": _decisive(train),
        "evaluate": {
            name: value for name, value in plain_options(evaluation).items() if name not in _OF_MACHINES
        },
    }
    shown = "" if alpha == AS_INDEX else alpha
    return Trial(strategy, shown, objective, fraction, seed, train, evaluation, identity)


def _decisive(config: TrainConfig) -> dict[str, Any]:
    """Return the options of a training on which its model depends."""
    names = {item.name for item in fields(config) if item.metadata["identity"] or item.name in _OF_SELECTION}
    names -= {*ineffective_options(config)}
    return {name: value for name, value in plain_options(config).items() if name in names}
