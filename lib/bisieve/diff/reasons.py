"""Why a rollout is in one cut and not in the other: one reason each, the first that holds.

What each reason means to a user is in docs/diff.md.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bisieve.manifest import Parameters
from bisieve.ranking import SHUFFLED

Mask = npt.NDArray[np.bool_]

# Beside each other those that mirror each other; the last ones hold for all that is left.
LEFT = ("gone", "fraction", "score changed", "parameters", "crowded out")
ENTERED = ("new rollout", "fraction", "score changed", "parameters", "made room")


def reasons(
    names: tuple[str, ...], unmatched: Mask, by_fraction: Mask, rescored: Mask, rekeyed: Mask
) -> pa.StringArray:
    """The first of ``names`` (`LEFT` or `ENTERED`) whose mask holds, the last one where none does.

    All masks have one entry a rollout: it is not in the other index; it would be in both cuts or in none
    with the fraction of A in B; its MC scores differ; what it is ranked by differs.
    """
    which = np.select([unmatched, by_fraction, rescored, rekeyed], [0, 1, 2, 3], 4)
    return pa.array(names, pa.string()).take(pa.array(which))


def ranked_alike(a: Parameters, b: Parameters) -> bool:
    """Whether equal keys compete in the same way: the same strategy, scope and order of ties."""
    return _competition(a) == _competition(b)


def _competition(parameters: Parameters) -> tuple[object, ...]:
    shuffled = parameters.strategy in SHUFFLED
    seeded = shuffled or parameters.ties == "hash"
    ties = "hash" if shuffled else parameters.ties
    return parameters.strategy, parameters.scope, ties, parameters.seed if seeded else None
