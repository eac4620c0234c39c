"""How many rollouts a fraction is (paper §4)."""

from collections.abc import Mapping

from bisieve.errors import UsageError


def cut_limits(rollouts: Mapping[str, int], scope: str, fraction: float) -> dict[str, int]:
    """The last rank that a cut takes, by source: ``max(1, int(m * fraction))`` of m rollouts.

    ``rollouts`` gives the usable rollouts of each source.  With ``scope`` global m is all of them, and the
    limit is the same for each.  `UsageError` when the fraction is not in (0, 1].
    """
    if not 0.0 < fraction <= 1.0:
        raise UsageError(
            "a fraction in (0, 1]", str(fraction), "give --fraction as a share, 0.25 for a quarter"
        )
    if scope == "global":
        return dict.fromkeys(rollouts, _limit(sum(rollouts.values()), fraction))
    return {source: _limit(count, fraction) for source, count in rollouts.items()}


def _limit(rollouts: int, fraction: float) -> int:
    return max(1, int(rollouts * fraction))
