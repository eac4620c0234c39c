"""The settings of a generated corpus."""

from dataclasses import dataclass, field
from typing import Literal

from bisieve.errors import UsageError
from bisieve.synthetic.solver import Solver

Layout = Literal["rollouts", "steps"]


@dataclass(frozen=True)
class CorpusConfig:
    """The settings of a corpus; equal settings give equal bytes."""

    rollouts: int = 20_000  # of all sources together
    seed: int = 0  # of all random numbers
    layout: Layout = "rollouts"  # rollouts: a record per rollout; steps: a record per step, scattered
    shard_rollouts: int | None = None  # rollouts per shard; None: one shard per source
    images: int = 5_000  # distinct pictures of all sources together; questions share them
    rollouts_per_question: int = 3
    continuations: int = 16  # N, sampled from every prefix
    early_stop: bool = False  # sample none after a step from which none was right, as VisualPRM's annotation
    any_order: bool = False  # each solution reads the picture in an order of its own
    solver: Solver = field(default_factory=Solver)
    benchmark: int = 600  # held-out rollouts with true step labels
    candidates: int = 0  # held-out questions with several responses each, for best-of-N
    responses: int = 16  # to each such question

    def __post_init__(self) -> None:
        """Check that every value is in its range.

        Raises:
            UsageError: A value is out of range.
        """
        for name, value, least in (
            ("--rollouts", self.rollouts, 1),
            ("--seed", self.seed, 0),
            ("--shard-rollouts", self.shard_rollouts, 1),
            ("--images", self.images, 1),
            ("--rollouts-per-question", self.rollouts_per_question, 1),
            ("--continuations", self.continuations, 1),
            ("--benchmark", self.benchmark, 0),
            ("--candidates", self.candidates, 0),
            ("--responses", self.responses, 1),
        ):
            if value is not None and value < least:
                raise UsageError(f"{name} of at least {least}", str(value), "give a larger number")
        for name, rate in (
            ("--mistake-rate", self.solver.mistake_rate),
            ("--correction-rate", self.solver.correction_rate),
        ):
            if not 0 <= rate <= 1:
                raise UsageError(f"{name} in [0, 1]", str(rate), "give a probability")
