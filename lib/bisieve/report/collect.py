"""Collect all that a report of an index says: `collect` reads the index once and returns an `IndexReport`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from bisieve.errors import UsageError
from bisieve.index.cutoffs import CutoffTies
from bisieve.index.exclusion import NOTHING, Exclusion
from bisieve.index.reader import Index
from bisieve.index.versions import last_passed
from bisieve.io.images import is_base64
from bisieve.records.model import Rollout
from bisieve.report.aggregates import OWN_CHART, Counts
from bisieve.report.cost import Cost, estimate_costs
from bisieve.report.examples import MOST_STEPS, Examples, Reject, cut, find_examples, find_rejects
from bisieve.report.reading import Unanswered
from bisieve.report.rows import View, open_view
from bisieve.report.what_if import Sample, WhatIf, what_if
from bisieve.tools.diff import Side, compare
from bisieve.tools.diff_report import Summary, summarised
from bisieve.tools.selection_notes import shortcut_notes


@dataclass(frozen=True)
class Compared:
    """The selection beside that of another index."""

    name: str  # the URL of the other index as it was given
    counts: Counts
    summary: Summary

    def numbers(self, most_sources: int | None = None) -> dict[str, Any]:
        """Return everything as a document, with so many sources at most: the largest ones."""
        found = self.summary.sources
        names = sorted(sorted(found, key=lambda name: -found[name][0])[:most_sources])
        return {
            "other": self.name,
            "sources": [
                dict(zip(("source", "here", "other", "both"), (name, *found[name]), strict=True))
                for name in names
            ],
            "reasons": [
                {"change": change, "reason": reason, "rollouts": count}
                for (change, reason), count in self.summary.reasons.items()
            ],
            "statistics": self.counts.kept.statistics().numbers(),
        }


@dataclass(frozen=True)
class IndexReport:
    """All numbers of a report."""

    name: str  # the URL of the index as it was given
    view: View
    counts: Counts
    ties: CutoffTies | None  # None for a strategy without a score
    notes: Sequence[str]
    passed: bool | None  # whether this version passed the gate last; None: no version has
    other: Compared | None
    costs: Mapping[str, Cost]  # of the corpus and of the selection
    what_if: WhatIf | None  # None if no rollout was looked at
    rejects: Sequence[Reject]
    examples: Examples

    @property
    def rejected_by_source(self) -> dict[str, int]:
        """Return the number of rejected records by source."""
        sources = self.view.index.sources.to_pylist()
        return {row["source"]: sum(each["records"] for each in row["rejected"]) for row in sources}

    def numbers(self, most_sources: int | None = None) -> dict[str, Any]:
        """Return everything as a document, with so many sources at most: the largest ones."""
        manifest, counts, rejected = self.view.index.manifest, self.counts, self.rejected_by_source
        named = counts.largest(most_sources)
        by_source = {name: values.sum(axis=0) for name, values in counts.by_source.items()}
        selected = {name: values[1] for name, values in counts.by_source.items()}
        return {
            "index": self.name,
            "version": manifest.fingerprint,
            "fraction": self.view.fraction,
            "parameters": msgspec.to_builtins(self.view.parameters),
            "passed_gate": self.passed,
            "ties": self.ties.numbers() if self.ties else None,
            "notes": list(self.notes),
            "more_sources": len(counts.names) - len(named),
            "sources": [
                {
                    "source": counts.names[number],
                    "corpus": {what: values[number] for what, values in by_source.items()},
                    "selection": {what: values[number] for what, values in selected.items()},
                    "lowest_bis": counts.lowest[number],
                    "rejected": rejected.get(counts.names[number], 0),
                }
                for number in sorted(named)
            ],
            **counts.numbers(),
            "costs": {name: asdict(cost) for name, cost in self.costs.items()},
            "what_if": self.what_if.numbers() if self.what_if else None,
            "compared": self.other.numbers(most_sources) if self.other else None,
            "rejects": [asdict(reject) for reject in self.rejects],
            "rollouts": [
                {"kind": each.kind, "why": each.why, **_begun(each.row), **_text_of(each.rollout)}
                for each in self.examples.found
            ],
            "not_read": self.examples.notes,
        }


def collect(
    index: Index, name: str, fraction: float, asked: Mapping[str, Any],
    image_root: str | None = None, other: tuple[Index, str] | None = None, exclusion: Exclusion = NOTHING,
) -> IndexReport:  # fmt: skip
    """Read an index once and return all that a report says of it.

    Args:
        index: The version to report.
        name: The URL of the index as the user gave it.
        fraction: Share of rollouts that is selected, in (0, 1].
        asked: Options of the selection, by name, where they differ from the index's.
        image_root: Where the images of the examples are.
        other: Another index to compare with, and its URL as the user gave it.
        exclusion: Rollouts that are left out, of the corpus as of the selection.

    Raises:
        UsageError: A value is out of range, or the index is too large to be ranked in memory.
        IndexUnusableError: A file of an index is missing or damaged.
    """
    view = open_view(index, fraction, asked, exclusion)
    counts, sample = counted(view)
    unanswered = Unanswered()
    examples = find_examples(view, image_root, unanswered) if view.rollouts else Examples()
    passed = last_passed(index.url)
    ties, notes = view.ties_and_notes()
    both = counts.corpus.statistics(), counts.kept.statistics()
    notes += shortcut_notes(*both, view.fraction, view.parameters.strategy)
    return IndexReport(
        name, view, counts, ties, notes,
        None if passed is None else passed.version == index.fingerprint,
        _compared(view, *other) if other else None,
        estimate_costs(counts, examples),
        what_if(sample, view.parameters, view.fraction) if sample.tables else None,
        find_rejects(index, unanswered), examples,
    )  # fmt: skip


def counted(view: View) -> tuple[Counts, Sample]:
    """Return the counts of all rows of a view, and a sample of them, from one pass."""
    parameters, rollouts = view.parameters, view.rollouts_by_source
    names = sorted(rollouts)
    largest = sorted(filter(rollouts.get, names), key=lambda name: -rollouts[name])[:OWN_CHART]
    is_global = parameters.scope == "global"
    counts = Counts(parameters.alpha, parameters.threshold, names, largest, is_global)
    sample = Sample(view.rollouts)
    for rows, kept in view.batches():
        counts.add(rows, kept)
        sample.add(rows)
    return counts, sample


def _compared(view: View, other: Index, name: str) -> Compared:
    if view.exclusion.ids:
        raise UsageError("--compare without --exclude", "both", "leave out one of them")
    if view.in_memory is not None:
        raise UsageError(
            "--compare with a selection by the options that the index is ranked by",
            "others",
            "write an index with them by bisieve rank, and report that",
        )
    theirs, _ = counted(open_view(other, view.fraction, {}))
    sides = Side(view.index, view.fraction), Side(other, view.fraction)
    return Compared(name, theirs, summarised(compare(*sides)))


def _text_of(rollout: Rollout | None) -> dict[str, Any]:
    if rollout is None:
        return {}
    steps = [cut(step) for step in rollout.steps[:MOST_STEPS]]
    return {"question": cut(rollout.question), "steps": steps, "images": _names(rollout)}


def _begun(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with the first steps of a long rollout; ``num_steps`` tells how many it has."""
    return {name: value[:MOST_STEPS] if isinstance(value, list) else value for name, value in row.items()}


def _names(rollout: Rollout) -> list[str]:
    """Return the names of the images; none for one that is itself inside the record."""
    return [name for name in rollout.images if not is_base64(name)]
