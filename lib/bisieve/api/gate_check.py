"""Check the current version of an index against limits and an earlier version: the gate."""

from dataclasses import dataclass
from typing import Any

from bisieve.api.index import Index
from bisieve.index.versions import mark_passed, open_version, version_to_compare_with
from bisieve.tools.gate import GateResult, Limits, judge
from bisieve.tools.gate_report import gate_document, gate_report, passes, refuse
from bisieve.tools.gate_stats import version_stats


@dataclass(frozen=True)
class GateCheck:
    """The result of the gate for one version of an index."""

    verdict: GateResult

    @property
    def passed(self) -> bool:
        """Return whether all values are within their limits."""
        return passes(self.verdict)

    @property
    def version(self) -> str:
        """Return the first 16 digits of the version's fingerprint."""
        return self.verdict.now.name

    def report(self) -> str:
        """Return the table that ``bisieve gate`` prints."""
        return gate_report(self.verdict)

    def numbers(self) -> dict[str, Any]:
        """Return the numbers of the report, as ``--json`` prints them."""
        return gate_document(self.verdict)

    def require(self) -> None:
        """Raise a `GateError` that names the largest values above their limits, if there are any."""
        refuse(self.verdict)

    def __repr__(self) -> str:
        """Return one line with the version and whether it passed."""
        return f"<GateCheck: version {self.version} {'passed' if self.passed else 'failed'}>"


def check_gate(
    index: Index, against: str | None = None, fraction: float = 0.25, limits: Limits | None = None
) -> GateCheck:
    """Compare the current version of an index with an earlier one, and record it if it passes.

    Args:
        index: The current version.
        against: First digits of the fingerprint to compare with; by default the last that passed.
        fraction: Share of rollouts whose selections are compared, in (0, 1].
        limits: By default those of ``bisieve gate``.

    Raises:
        UsageError: A limit is out of range.
        IndexUnusableError: A version is missing or damaged.
    """
    limits = limits or Limits()
    limits.check()
    now = index.opened
    before = open_version(index.url, against) if against else version_to_compare_with(now)
    was = None if before is None else version_stats(before, fraction)
    check = GateCheck(judge(version_stats(now, fraction), was, limits))
    if check.passed:
        mark_passed(now, before)
    return check
