"""How many workers a run has: a number, or as many of a range as the cluster has room for."""

import re
from dataclasses import dataclass

from bisieve.wording import counted


@dataclass(frozen=True)
class Workers:
    """From ``least`` to ``most`` workers; Ray Train starts with what there is and may change it later."""

    least: int
    most: int

    def __str__(self) -> str:
        return f"{self.least}-{self.most}" if self.elastic else str(self.least)

    @property
    def elastic(self) -> bool:
        return self.least < self.most

    @property
    def words(self) -> str:
        """As "1 worker" or "2-8 workers"."""
        return f"{self} workers" if self.elastic else counted(self.least, "worker")

    @property
    def given(self) -> int | str:
        """As a flag or a TOML file gives it."""
        return str(self) if self.elastic else self.least

    @property
    def for_ray(self) -> int | tuple[int, int]:
        """The ``num_workers`` of Ray Train's ``ScalingConfig``."""
        return (self.least, self.most) if self.elastic else self.least


def workers(given: str | int) -> Workers:
    """The workers of ``8`` or ``2-8``; `ValueError` for other words and for a range that falls."""
    numbers = re.fullmatch(r"(\d+)(?:-(\d+))?", str(given), re.ASCII)
    if numbers is None or isinstance(given, bool):
        raise ValueError(f"neither a number nor a range such as 2-8: {given!r}")
    least = int(numbers[1])
    most = int(numbers[2] or least)
    if most < least:
        raise ValueError(f"a range that falls: {given!r}")
    return Workers(least, most)
