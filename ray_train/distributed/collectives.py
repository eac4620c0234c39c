"""Collectives that share values and errors between the ranks of a training run.

A rank that stopped alone would leave the others waiting in a collective. So an error of one rank is raised
on all ranks. All ranks must call these functions in the same order.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from bisieve.errors import BisieveError, TrainingError

Result = TypeVar("Result")

_collectives_entered = 0


def collectives_entered() -> int:
    """Return how many collectives of this module this process has entered."""
    return _collectives_entered


def _count_collective() -> None:
    global _collectives_entered
    _collectives_entered += 1


def run_on_all_ranks(prepare: Callable[[], Result]) -> Result:
    """Call ``prepare`` on every rank and return this rank's result.

    Raises:
        BisieveError: ``prepare`` raised one on any rank; every rank raises that of the lowest such rank.
    """
    error, result = None, None
    try:
        result = prepare()
    except BisieveError as caught:
        error = caught
    raise_first(error)
    return cast(Result, result)


def raise_first(error: BisieveError | None) -> None:
    """Raise, on every rank, the error of the lowest rank that has one; return if there is none."""
    for found in from_all_ranks(error):
        if found is not None:
            raise found


def from_all_ranks(value: Result) -> list[Result]:
    """Return the ``value`` of every rank, by rank; it is pickled on the way."""
    _count_collective()
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def all_reduce_sum(
    counts: dict[str, float], error: BisieveError | None, device: torch.device
) -> dict[str, float]:
    """Return the sums of ``counts`` over all ranks, added in float64.

    Args:
        counts: Numbers by name, with the same names in the same order on all ranks.
        error: An error of this rank, if any.
        device: The device on which the backend sums.

    Raises:
        BisieveError: Any rank passed an ``error``; every rank raises that of the lowest such rank.
    """
    _count_collective()
    sums = torch.tensor([*counts.values(), float(error is not None)], dtype=torch.float64).to(device)
    dist.all_reduce(sums)
    *values, errors = sums.tolist()
    if errors:
        raise_first(error)
    return dict(zip(counts, values, strict=True))


def all_reduce_max(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """Return the maximum of each of ``values`` over all ranks; names and order are those of every rank."""
    _count_collective()
    tops = torch.tensor([*values.values()], dtype=torch.float64).to(device)
    dist.all_reduce(tops, dist.ReduceOp.MAX)
    return dict(zip(values, tops.tolist(), strict=True))


def any_rank(holds: bool, device: torch.device) -> bool:
    """Return, on every rank, whether ``holds`` is true on any rank."""
    _count_collective()
    flag = torch.tensor(int(holds)).to(device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


def check_agreed(facts: dict[str, Any]) -> None:
    """Check that all ranks have the same ``facts``, which must be hashable.

    Raises:
        TrainingError: A fact differs; raised on every rank, with its values and their ranks.
    """
    all_facts = from_all_ranks(facts)
    for name in facts:
        ranks: dict[Any, list[int]] = {}
        for rank, theirs in enumerate(all_facts):
            ranks.setdefault(theirs[name], []).append(rank)
        if len(ranks) > 1:
            raise TrainingError(
                f"the same {name} on all ranks",
                "; ".join(f"{value} on {_ranks(group)}" for value, group in ranks.items()),
                "give all machines the same files and the same versions of the packages",
            )


def _ranks(ranks: list[int]) -> str:
    more = f" and {len(ranks) - 8} more" if len(ranks) > 8 else ""
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks[:8]))}{more}"
