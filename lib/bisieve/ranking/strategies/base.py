"""What a strategy is made of, and what several strategies compute.

To add a strategy, add a module beside this one, with a constant ``STRATEGY`` of the type `Strategy`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bisieve.ranking.grouped import GroupPass
from bisieve.records.options import Parameters

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Strategy:
    """How rollouts are ranked.

    It may use only columns of the index, and only float operations that give equal bits on all machines:
    ``+``, ``-``, ``*``, ``/`` and comparisons, but no ``exp`` or ``log``.
    """

    key: Callable[[pa.Table, Parameters], Floats]  # of each rollout by itself, greatest first, [rows]
    passes: tuple[GroupPass, ...] = ()  # then applied in order; they replace the key
    shuffled: bool = False  # equal keys are in random order (a seeded hash), whatever the rule for ties
    options: tuple[str, ...] = ()  # parameters that only this strategy and few others use
    uses_alpha: bool = True  # whether the order depends on α
    columns: tuple[str, ...] = ()  # columns that ``key`` reads, beside those of the score and its parts

    @property
    def has_score(self) -> bool:
        """Return whether more than a random order or that of the corpus ranks the rollouts."""
        return self.key is not no_key


def bis(rows: pa.Table, parameters: Parameters) -> Floats:
    """Return BIS as it is in the rows (paper §4)."""
    return rows["bis"].to_numpy()  # type: ignore[no-any-return]


def no_key(rows: pa.Table, parameters: Parameters) -> Floats:
    """Return zeros: only the rule for ties orders the rollouts."""
    return np.zeros(rows.num_rows)


def step_owner(rows: pa.Table) -> npt.NDArray[np.int64]:
    """Return the row of each step, int64 [steps]."""
    return np.repeat(np.arange(rows.num_rows), rows["num_steps"].to_numpy())


def step_scores(rows: pa.Table) -> Floats:
    """Return the MC score of each step, [steps]."""
    return rows["scores"].combine_chunks().flatten().to_numpy()  # type: ignore[no-any-return]
