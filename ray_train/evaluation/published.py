"""The published counts of VisualProcessBench (arXiv 2503.10291), with which a file's own are compared.

A file claims to be VisualProcessBench, or a part of it, if it has no sources but the five of the benchmark.
It is the whole benchmark, and its results can be compared with published ones, only if all counts are equal.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from ray_train.evaluation.benchmark import Solution

WHOLE, PART, OTHER = "whole", "part", "other counts"


class Counts(NamedTuple):
    """The counts of a source."""

    solutions: int
    right: int  # steps
    wrong: int  # steps; neutral ones are in neither


# By the paper's names; those in the file may have more behind a "_", such as MMMU_DEV_VAL or MathVision_MINI.
VISUALPROCESSBENCH = {
    "MMMU": Counts(267, 1698, 708),
    "MathVision": Counts(712, 3875, 2350),
    "MathVerse": Counts(1026, 5767, 2960),
    "DynaMath": Counts(570, 3469, 1091),
    "WeMath": Counts(291, 1776, 582),
}


def counts_of(solutions: Sequence[Solution]) -> dict[str, Counts]:
    """Return the counts of each source, by the paper's name for it."""
    names = [solution.source.partition("_")[0] for solution in solutions]
    number = Counter(names)
    steps = Counter(
        (name, judged)
        for name, solution in zip(names, solutions, strict=True)
        for judged in solution.judgements
    )
    return {source: Counts(number[source], steps[source, 1], steps[source, -1]) for source in number}


def published_counts(solutions: Sequence[Solution]) -> dict[str, Any] | None:
    """Compare the counts of a benchmark with the published ones.

    Returns:
        ``is``: `WHOLE` if all are equal, `PART` if none is larger, else `OTHER`; and ``different``: by source
        and kind the count found and the published one. None if the file does not claim to be
        VisualProcessBench.
    """
    found = counts_of(solutions)
    if not found.keys() <= VISUALPROCESSBENCH.keys():
        return None
    found = {source: found.get(source, Counts(0, 0, 0)) for source in VISUALPROCESSBENCH}
    pairs = {
        source: {
            kind: [getattr(found[source], kind), getattr(published, kind)]
            for kind in Counts._fields
            if getattr(found[source], kind) != getattr(published, kind)
        }
        for source, published in VISUALPROCESSBENCH.items()
    }
    different = {source: counts for source, counts in pairs.items() if counts}
    smaller = all(own < known for counts in pairs.values() for own, known in counts.values())
    return {"is": WHOLE if not different else PART if smaller else OTHER, "different": different}


def published_line(found: dict[str, Any] | None) -> str:
    """Return the result of `published_counts` as a line for the user; "" if there is nothing to say."""
    if found is None:
        return ""
    if found["is"] == WHOLE:
        return "VisualProcessBench, with the published counts of solutions and steps in every source"
    source, counts = next(iter(found["different"].items()))
    (kind, (own, known)), *_ = counts.items()
    what = "a part of VisualProcessBench" if found["is"] == PART else "VisualProcessBench, but other counts"
    unit = "solutions" if kind == "solutions" else f"{kind} steps"
    difference = f"{own:,} {unit} of {source} instead of {known:,}"
    return f"note: {what}: {difference}; do not compare with published results"
