"""Summarise a comparison for the terminal: a line per source, then each reason with its count and an example.

`summarised` counts the `SourceDiff`s of `diff.compare`; `diff_report` turns the counts into text.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow.compute as pc

from bisieve._text import Report, Table, percent
from bisieve.tools.diff import ENTERED, LEFT, Side, SourceDiff

_HEAD = ("source", "selection A", "selection B", "kept", "left", "entered", "overlap")

_Counts = tuple[int, int, int]  # rollouts in the selection of A, in that of B, in both


@dataclass
class Summary:
    """Counts of the sources compared so far."""

    sources: dict[str, _Counts] = field(default_factory=dict)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)  # by change and reason
    examples: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)  # the first row of each

    def add(self, diff: SourceDiff) -> None:
        """Add the counts and, for each new reason, an example of one source."""
        self.sources[diff.source] = (diff.in_a, diff.in_b, diff.kept)
        changes = diff.changes
        groups = changes.select(["change", "reason"]).group_by(["change", "reason"], use_threads=False)
        for counted in groups.aggregate([([], "count_all")]).to_pylist():
            key = counted["change"], counted["reason"]
            self.reasons[key] += counted["count_all"]
            if key not in self.examples:
                is_it = pc.and_(pc.equal(changes["change"], key[0]), pc.equal(changes["reason"], key[1]))
                self.examples[key] = changes.slice(pc.index(is_it, True).as_py(), 1).to_pylist()[0]


def summarised(diffs: Iterable[SourceDiff]) -> Summary:
    """Return the summary of all ``diffs``; this consumes the iterable."""
    summary = Summary()
    for diff in diffs:
        summary.add(diff)
    return summary


def diff_report(summary: Summary, a: Side, b: Side) -> Report:
    """Return the report as text of several lines.

    It has a table with a line per source and one for all, a line per reason with its count and an example,
    and for A and for B the index, the fraction and the ranking parameters.
    """
    total = [sum(column) for column in zip((0, 0, 0), *summary.sources.values(), strict=True)]
    named = [*summary.sources.items(), ("all", total)]
    table, lines = Table(_HEAD, [_row(source, *counts) for source, counts in named]), []
    for change, names in (("left", LEFT), ("entered", ENTERED)):
        for reason in names:
            if count := summary.reasons[change, reason]:
                lines.append(f"{change} {count:,}: {reason}, as {_example(summary.examples[change, reason])}")
    for name, side in (("A", a), ("B", b)):
        asked = side.index.manifest.parameters
        lines.append(
            f"{name} {side.index.url}: {side.index.fingerprint[:16]}, best {percent(side.fraction)}, "
            f"alpha {asked.alpha:g}, strategy {asked.strategy}, scope {asked.scope}, ties {asked.ties}"
        )
    return Report(table, *lines)


def diff_document(summary: Summary, a: Side, b: Side) -> dict[str, Any]:
    """Return the numbers of `diff_report` for a JSON document."""
    return {
        **{
            name: {
                "index": side.index.url, "version": side.index.fingerprint, "fraction": side.fraction,
                "parameters": asdict(side.index.manifest.parameters),
            }
            for name, side in (("a", a), ("b", b))
        },
        "sources": [
            {"source": name, "a": in_a, "b": in_b, "kept": kept, "left": in_a - kept, "entered": in_b - kept}
            for name, (in_a, in_b, kept) in summary.sources.items()
        ],
        "reasons": [
            {"change": key[0], "reason": key[1], "rollouts": count, "example": summary.examples[key]}
            for key, count in summary.reasons.items()
        ],
    }  # fmt: skip


def _row(source: str, in_a: int, in_b: int, kept: int) -> tuple[str, ...]:
    either = in_a + in_b - kept
    overlap = f"{kept / either:.1%}" if either else "-"
    return source, *(f"{count:,}" for count in (in_a, in_b, kept, in_a - kept, in_b - kept)), overlap


def _example(row: dict[str, Any]) -> str:
    places = [
        f"rank {row[f'rank_{side}']:,} (BIS {row[f'bis_{side}']:.4f})" if row[f"rank_{side}"] else "none"
        for side in "ab"
    ]
    return f"{row['source']} {row['rollout_id']} at {row['shard']}@{row['offset']}: {' → '.join(places)}"
