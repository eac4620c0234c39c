"""Hashes with the same results on every machine."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import xxhash

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def splitmix64(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the next output of the splitmix64 generator for each state.

    It is a fixed one-to-one mixing function: equal inputs give equal results, and the results of distinct
    inputs look like independent random numbers.
    """
    with np.errstate(over="ignore"):
        state = state + GOLDEN
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))


def seeded_hashes(names: Iterable[str], seed: int) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash (XXH3) of each name; other seeds give independent hashes."""
    return np.array([xxhash.xxh3_64_intdigest(name.encode(), seed) for name in names], np.uint64)
