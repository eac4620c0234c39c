"""What a version of an index may reach and still pass."""

import math
from dataclasses import dataclass

from bisieve.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """The limits of a gate; a number at its limit passes."""

    reject_rate: float = 0.01  # rejected records / all records, over all sources
    mixture_drift: float = 0.05  # change of a source's share of mixed rollouts, absolute
    score_drift: float = 0.10  # change of the BIS at which its cut ends, relative to the one before
    lost: float = 0.20  # rollouts of a source, and of all, that are gone / those of the version before
    min_rollouts: int = 1000  # of a source in either version: of fewer, chance alone moves a share that far

    def check(self) -> None:
        """`UsageError` for a limit that cannot be."""
        for name, most in (
            ("reject_rate", 1.0), ("mixture_drift", 1.0), ("score_drift", math.inf), ("lost", 1.0)
        ):  # fmt: skip
            found = getattr(self, name)
            if not 0 <= found <= most:  # nan, too
                expected = "a share from 0 to 1" if most == 1 else "a number from 0 on"
                raise UsageError(expected, str(found), f"correct --max-{name.replace('_', '-')}")
        if self.min_rollouts < 1:
            raise UsageError("an integer of 1 or more", str(self.min_rollouts), "correct --min-rollouts")
