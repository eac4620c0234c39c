"""Numbers as text for a page."""

import math


def share_of(part: int, whole: int) -> float | None:
    """Return ``part / whole``; None if ``whole`` is 0."""
    return part / whole if whole else None


def percent_of(part: int, whole: int) -> str:
    """Return ``part / whole`` as a percentage."""
    return f"{part / whole:.1%}" if whole else "–"


def decimal(value: float) -> str:
    """Return a number with two decimals; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.2f}"


def percentage(share: float) -> str:
    """Return a share as a percentage; a dash for NaN."""
    return "–" if math.isnan(share) else f"{share:.1%}"


def short(value: float) -> str:
    """Return a number in three digits, such as "1.23 M"."""
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"
