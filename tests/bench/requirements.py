"""Holds the measurements against the requirements of the plan."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.plan import Requirement

Measurements = Mapping[str, Mapping[str, float]]  # case/size/contender → metric → number


@dataclass(frozen=True)
class Verdict:
    """What became of a requirement."""

    requirement: Requirement
    found: float | None  # None: not measured
    holds: bool

    @property
    def failed(self) -> bool:
        """Whether the benchmark fails for it; what was not asked for cannot fail."""
        return self.found is not None and not self.holds

    def __str__(self) -> str:
        bound = self.requirement
        limit = f"≥ {bound.at_least:g}" if bound.at_least is not None else f"≤ {bound.at_most:g}"
        if self.found is None:
            return f"  --   {bound.says}: not measured (wanted {limit})"
        found = "no result" if math.isnan(self.found) else f"{self.found:.4g}"
        return f"{'  ok ' if self.holds else 'FAILS'}  {bound.says}: {found} (wanted {limit})"


def judge(requirements: Iterable[Requirement], measured: Measurements, ran: set[str]) -> list[Verdict]:
    """A verdict a requirement.

    ``ran`` names what was run (``case/size/contender``).  A requirement on what was run fails when there is
    no measurement, since the contender broke or disagreed; one on what was not run is left open.
    """
    return [_judge(requirement, measured, ran) for requirement in requirements]


def _judge(requirement: Requirement, measured: Measurements, ran: set[str]) -> Verdict:
    if not ran.issuperset(name.rpartition("/")[0] for name in requirement.names):
        return Verdict(requirement, None, False)
    numbers = [_number(measured, name) for name in requirement.value]
    least_favourable = min if requirement.at_least is not None else max
    found = math.nan if any(map(math.isnan, numbers)) else least_favourable(numbers)
    if requirement.over is not None:
        found /= _number(measured, requirement.over)
    holds = (
        found >= requirement.at_least if requirement.at_least is not None else found <= requirement.at_most
    )
    return Verdict(requirement, found, holds)


def _number(measured: Measurements, name: str) -> float:
    place, _, metric = name.rpartition("/")
    return measured.get(place, {}).get(metric, math.nan)
