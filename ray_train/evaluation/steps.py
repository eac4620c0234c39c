"""The scored steps of a benchmark as a table of columns, from which all metrics are computed."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ray_train.evaluation.benchmark import Solution

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Ints: TypeAlias = npt.NDArray[np.int64]
Texts: TypeAlias = npt.NDArray[np.str_]

Rewards: TypeAlias = Sequence[Sequence[float]]  # by solution; trailing steps may have none


@dataclass(frozen=True)
class ScoredSteps:
    """The steps that have a reward and are judged right or wrong; each array has one entry per step.

    The steps of a solution follow one another, in their order.
    """

    rewards: Floats  # P(Yes), less the risk term if there is one
    correct: Bools  # judged right
    sources: Texts  # source of the benchmark
    questions: Texts  # `Solution.question_key`, so that both halves share no question
    solutions: Ints  # number of the solution: its line of the benchmark
    positions: Ints  # of the step in its solution, from 1; neutral steps count
    lengths: Ints  # steps of the solution, neutral ones included
    whole: Bools  # whether all judged steps of the solution have a reward

    def where(self, chosen: Bools) -> "ScoredSteps":
        """Return the steps for which ``chosen`` is true."""
        return ScoredSteps(*(getattr(self, column.name)[chosen] for column in fields(self)))

    def __len__(self) -> int:
        return len(self.rewards)


def judged_steps(solutions: "Sequence[Solution]", rewards: Rewards) -> ScoredSteps:
    """Return the steps that have a reward and are judged right or wrong; neutral steps (0) are left out.

    Args:
        solutions: The solutions of a benchmark.
        rewards: The rewards of each solution; trailing steps may have none.
    """
    rows = [
        (reward, judgement > 0, solution.source, solution.question_key, solution.line, position,
         len(solution.steps), not any(solution.judgements[len(scored) :]))
        for solution, scored in zip(solutions, rewards, strict=True)
        for position, (reward, judgement) in enumerate(zip(scored, solution.judgements, strict=False), 1)
        if judgement != 0
    ]  # fmt: skip
    kinds = (np.float64, np.bool_, np.str_, np.str_, np.int64, np.int64, np.int64, np.bool_)
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(kinds)
    return ScoredSteps(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)))
