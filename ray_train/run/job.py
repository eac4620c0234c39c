"""What the driver tells its workers, and what they give back."""

from dataclasses import dataclass, field
from typing import Any

from bisieve.errors import BisieveError
from ray_train.config import TrainConfig
from ray_train.data.plan import Plan
from ray_train.data.targets import Floats


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
    broken: dict[str, str] = field(default_factory=dict)  # images whose rollouts were left out, and why
