"""What a format of JSON lines is: how a rollout becomes a record, and what such a record cannot carry.

LineFormat.convert: rollout, threshold ─▶ record        Findings: checks of all rollouts ─▶ refusal, notes
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bisieve._text import pluralize
from bisieve.errors import UsageError
from bisieve.records.model import Rollout

Record = dict[str, Any]  # the values are those of JSON


@dataclass(frozen=True)
class Check:
    """Something that a format cannot carry."""

    what: str  # said of rollouts, as in "2 rollouts have <image> in a step"
    found: Callable[[Rollout], bool]
    is_refused: bool = False  # True: the record would be wrong; False: something is left out of it


@dataclass(frozen=True)
class LineFormat:
    """A format of JSON lines, one per rollout."""

    name: str  # as in ``--format``
    content: str  # what is written, for ``--help``
    convert: Callable[[Rollout, float], Record]  # rollout, threshold of a right step
    checks: Sequence[Check]

    def refused(self, rollout: Rollout) -> list[str]:
        """Return why ``rollout`` cannot be written: nothing if it can."""
        return [check.what for check in self.checks if check.is_refused and check.found(rollout)]


@dataclass
class Findings:
    """How many rollouts have what a format cannot carry, with an example of each."""

    format: LineFormat
    left_out: int = 0  # rollouts that are refused, counted once
    _counts: Counter[str] = field(default_factory=Counter)
    _examples: dict[str, str] = field(default_factory=dict)  # what → id of the first rollout with it

    def carries(self, rollout: Rollout) -> bool:
        """Count what ``rollout`` has; return whether it can be written."""
        refused = self.format.refused(rollout)
        self.left_out += bool(refused)
        lost = (
            () if refused else (c.what for c in self.format.checks if not c.is_refused and c.found(rollout))
        )
        for what in (*refused, *lost):
            self._counts[what] += 1
            self._examples.setdefault(what, rollout.rollout_id)
        return not refused

    def refuse(self, written: int) -> None:
        """Refuse what cannot be written.

        Args:
            written: Number of rollouts that can.

        Raises:
            UsageError: There is a rollout that cannot be written.
        """
        if self.left_out:
            reasons = "; ".join(
                self._line(c.what) for c in self.format.checks if c.is_refused and self._has(c)
            )
            hint = "add --skip-unsupported to leave them out" if written else "choose another --format"
            raise UsageError(f"only rollouts that --format {self.format.name} can carry", reasons, hint)

    @property
    def notes(self) -> list[str]:
        """Return one line for each thing that was left out."""
        notes = []
        for check in filter(self._has, self.format.checks):
            end = ", left out" if check.is_refused else ""
            notes.append(f"{self.format.name}: {check.what}; {self._rollouts(check.what)}{end}")
        return notes

    def _has(self, check: Check) -> bool:
        return check.what in self._counts

    def _line(self, what: str) -> str:
        return f"{self._rollouts(what)}: {what}"

    def _rollouts(self, what: str) -> str:
        return f"{pluralize(self._counts[what], 'rollout')}, such as {self._examples[what]}"
