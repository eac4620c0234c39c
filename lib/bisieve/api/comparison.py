"""Compare two selections, and check the current version of an index against an earlier one: the gate."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from bisieve._text import pluralize
from bisieve.api.index import Index
from bisieve.api.selection import Selection, table_as_html
from bisieve.errors import UsageError
from bisieve.index.versions import mark_passed, open_version, version_to_compare_with
from bisieve.tools import diff
from bisieve.tools.diff_report import Summary, diff_document, diff_report, summarised
from bisieve.tools.export import check_target
from bisieve.tools.gate import GateResult, Limits, judge, version_stats
from bisieve.tools.gate_report import gate_document, gate_report, passes, refuse


@dataclass(frozen=True)
class Comparison:
    """Which rollouts two selections have in common, which left, which entered, and why."""

    summary: Summary
    a: diff.Side
    b: diff.Side

    @property
    def table(self) -> pa.Table:
        """Return a row per source: rollouts selected in A, in B, kept, left and entered."""
        rows = [
            {"source": name, "a": a, "b": b, "kept": kept, "left": a - kept, "entered": b - kept}
            for name, (a, b, kept) in self.summary.sources.items()
        ]
        return pa.Table.from_pylist(rows)

    def report(self) -> str:
        """Return the tables that ``bisieve diff`` prints."""
        return diff_report(self.summary, self.a, self.b)

    def numbers(self) -> dict[str, Any]:
        """Return the numbers of the report, as ``--json`` prints them."""
        return diff_document(self.summary, self.a, self.b)

    @property
    def reasons(self) -> dict[tuple[str, str], int]:
        """Return the number of rollouts by (change, reason); docs/reference/diff.md explains the reasons."""
        return dict(self.summary.reasons)

    def __repr__(self) -> str:
        """Return one line with the numbers of kept, left and entered rollouts."""
        total = [sum(column) for column in zip((0, 0, 0), *self.summary.sources.values(), strict=True)]
        a, b, kept = total
        return f"<Comparison: {pluralize(kept, 'rollout')} kept, {a - kept:,} left, {b - kept:,} entered>"

    def _repr_html_(self) -> str:
        return table_as_html(repr(self), self.table)


def compare(a: Selection, b: Selection, output: str | None = None) -> Comparison:
    """Compare two selections; shards are not read.

    Args:
        a: The selection before.
        b: The selection after.
        output: URL of a Parquet file for the rollouts that left or entered, with reasons.

    Raises:
        IndexUnusableError: A file of an index is missing or damaged.
        UsageError: ``output`` is inside an index or a shard, or a selection is made by other options than
            those that its index is ranked by.
    """
    for one in (a, b):
        if one.exclude:
            raise UsageError("selections without exclude", f"one of {one.index.url} with it", "leave it out")
        if one.ranking and one.parameters != one.index.manifest.parameters:
            raise UsageError(
                "selections by the options that their index is ranked by",
                f"others for {one.index.url}",
                "write an index with them by bisieve rank, and compare that",
            )
    sides = [diff.Side(one.index, one.fraction) for one in (a, b)]
    diffs = diff.compare(*sides)
    if output:
        for side in sides:
            check_target(side.index, output)
        diffs = diff.written(diffs, output)
    return Comparison(summarised(diffs), *sides)


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
