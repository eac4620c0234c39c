"""Errors that all ranks share: one that stopped alone would leave the others waiting in a collective."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from bisieve.errors import BisieveError, TrainingError

Result = TypeVar("Result")

_meetings = 0


def meetings() -> int:
    """How often this process has come to where all ranks wait for one another."""
    return _meetings


def _meet() -> None:
    global _meetings
    _meetings += 1


def run_on_all_ranks(prepare: Callable[[], Result]) -> Result:
    """The result of ``prepare()``; when it fails on any rank, every rank raises that rank's error."""
    error, result = None, None
    try:
        result = prepare()
    except BisieveError as caught:
        error = caught
    raise_first(error)
    return cast(Result, result)


def raise_first(error: BisieveError | None) -> None:
    """Raises, on every rank, the error of the first rank that has one."""
    for found in from_all_ranks(error):
        if found is not None:
            raise found


def from_all_ranks(value: Result) -> list[Result]:
    """The ``value`` of every rank, on every rank."""
    _meet()
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def all_reduce_sum(
    counts: dict[str, float], error: BisieveError | None, device: torch.device
) -> dict[str, float]:
    """The sums of ``counts`` over all ranks; when any rank brings an error, every rank raises it."""
    _meet()
    sums = torch.tensor([*counts.values(), float(error is not None)], dtype=torch.float64).to(device)
    dist.all_reduce(sums)
    *values, errors = sums.tolist()
    if errors:
        raise_first(error)
    return dict(zip(counts, values, strict=True))


def all_reduce_max(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """The largest of each of ``values`` over all ranks."""
    _meet()
    tops = torch.tensor([*values.values()], dtype=torch.float64).to(device)
    dist.all_reduce(tops, dist.ReduceOp.MAX)
    return dict(zip(values, tops.tolist(), strict=True))


def any_rank(holds: bool, device: torch.device) -> bool:
    """Whether ``holds`` on any rank; the same answer on all."""
    _meet()
    flag = torch.tensor(int(holds)).to(device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


def check_agreed(facts: dict[str, Any]) -> None:
    """`TrainingError` on every rank unless all have the same ``facts``; names the ranks that differ."""
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
