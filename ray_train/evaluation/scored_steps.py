"""The judged steps of a benchmark with their rewards."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ScoredSteps:
    """The judged steps of a benchmark, one entry a step in every array."""

    rewards: Floats  # P(Yes)
    correct: Bools  # the human's judgement
    sources: npt.NDArray[np.str_]  # benchmark source
    questions: npt.NDArray[np.str_]  # names the question, so that one never lies in both halves

    def where(self, chosen: Bools) -> "ScoredSteps":
        return ScoredSteps(
            self.rewards[chosen], self.correct[chosen], self.sources[chosen], self.questions[chosen]
        )

    def __len__(self) -> int:
        return len(self.rewards)
