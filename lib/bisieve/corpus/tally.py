"""What was written, counted while it is written."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bisieve.corpus.records import AnnotatedRollout


@dataclass
class Tally:
    """The numbers of one source, or of all."""

    source: str
    rollouts: int = 0
    steps: int = 0
    all_positive: int = 0  # rollouts all of whose steps have a score above 0
    all_negative: int = 0  # rollouts none of whose steps has
    successes: int = 0  # of all continuations of all steps
    continuations: int = 0

    def watch(self, rollouts: Iterable[AnnotatedRollout]) -> Iterator[AnnotatedRollout]:
        """Passes ``rollouts`` on and counts them."""
        for rollout in rollouts:
            self.rollouts += 1
            self.steps += len(rollout.steps)
            self.all_positive += all(rollout.mc_correct)
            self.all_negative += not any(rollout.mc_correct)
            self.successes += sum(rollout.mc_correct)
            self.continuations += rollout.continuations * len(rollout.steps)
            yield rollout

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.source,
            self.rollouts + other.rollouts,
            self.steps + other.steps,
            self.all_positive + other.all_positive,
            self.all_negative + other.all_negative,
            self.successes + other.successes,
            self.continuations + other.continuations,
        )


def table(tallies: list[Tally]) -> str:
    """One line a source and one for all: counts, shares of the rollouts, mean MC score of the steps."""
    titles = ("source", "rollouts", "steps", "mixed", "all-positive", "all-negative", "mean MC")
    rows = [titles, *(_row(tally) for tally in [*tallies, sum(tallies, Tally("all"))])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [cells[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        )
        for cells in rows
    )


def _row(tally: Tally) -> tuple[str, ...]:
    mixed = tally.rollouts - tally.all_positive - tally.all_negative
    return (
        tally.source,
        f"{tally.rollouts:,}",
        f"{tally.steps:,}",
        f"{mixed / tally.rollouts:.1%}",
        f"{tally.all_positive / tally.rollouts:.1%}",
        f"{tally.all_negative / tally.rollouts:.1%}",
        f"{tally.successes / tally.continuations:.3f}",
    )
