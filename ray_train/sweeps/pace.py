"""How long trials take, by those that are finished."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ray_train.sweeps.grid import Trial
from ray_train.sweeps.results import Finished


@dataclass(frozen=True)
class Pace:
    """Seconds of the parts of a trial."""

    corpus: float  # one epoch over all rollouts
    evaluation: float

    def of(self, trial: Trial) -> float:
        """Return the seconds that a trial takes, about."""
        return self.corpus * passes(trial) + self.evaluation


def passes(trial: Trial) -> float:
    """Return how often a trial trains on as many rollouts as there are."""
    return trial.fraction * trial.train.epochs


def pace_of(finished: Sequence[Finished]) -> Pace | None:
    """Return the pace of finished trials; None if there are none."""
    if not finished:
        return None
    # The first trial of a process also imports torch and loads the backbone.
    later = [each for each in finished if not each.result.get("first_of_process")] or finished
    seconds = sum(each.result["training"]["seconds"] for each in later)
    return Pace(
        float(seconds / sum(passes(each.trial) for each in later)),
        float(np.mean([each.result["evaluation_seconds"] for each in later])),
    )


def in_words(seconds: float) -> str:
    """Return a time such as "34 s", "12 min" or "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
