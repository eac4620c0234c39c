"""Summarise an index for the terminal."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from bisieve._text import Report, Table, percent, pluralize
from bisieve.index.cutoffs import CutoffTies
from bisieve.index.exclusion import NOTHING, Exclusion
from bisieve.index.reader import Index
from bisieve.index.selection import Selection, selection_ties
from bisieve.index.statistics import Statistics, index_statistics, statistics_of
from bisieve.index.writer import REPORTED
from bisieve.ranking.strategies import strategy_of
from bisieve.records.model import HINTS
from bisieve.records.options import Parameters
from bisieve.scan.chunks import COUNTED
from bisieve.tools.selection_notes import (
    ranking_notes,
    selection_notes,
    shortcut_notes,
    statistics_table,
    ties_and_notes,
)

SHOWN = 100  # sources in the table after a run; `bisieve report` shows all
NOTED = (0.10, 0.25)  # fractions that the paper reports, whose ties and statistics are shown
_COLUMNS = ("rollouts", "steps", "mixed", "all +", "all -", "ties", "rejected")


def score_report(
    index: Index, url: str, written: bool | None = None, fractions: Sequence[float] = NOTED,
    selections: Sequence[Selection] = (), exclusion: Exclusion = NOTHING,
) -> Report:  # fmt: skip
    """Return the summary of an index as text of several lines.

    It has a table with a line per source, a line per reject reason with its count and first example, the
    number of files of an unsupported kind, the ties at the end of the best 10 and 25 %, and a line with the
    index's URL and fingerprint. If the strategy is ``bis``, the last columns of the table are the cutoff
    scores: the BIS of the last rollout in the best 5, 10, 25 and 50 %. If there was no run, a second table
    shows the statistics of selections beside those of the corpus, for which all rollouts of the index are
    read.

    Args:
        index: The index to summarise.
        url: The URL of the index as the user gave it.
        written: After a run, whether it published a version; then the table shows the `SHOWN` largest sources
            only. None if there was no run: all sources are shown.
        fractions: Selections whose ties and statistics are shown, each in (0, 1].
        selections: These in place of ``fractions``.
        exclusion: What they leave out; it is not part of the corpus beside them.
    """
    manifest = index.manifest
    more = 0 if written is None else max(index.sources.num_rows - SHOWN, 0)
    sources = _largest(index.sources) if more else index.sources
    # Where a selection by another key ends, the BIS says nothing.
    ends = REPORTED if manifest.parameters.strategy == "bis" else ()
    # Ties inside groups decide, too, and no number of the index says how many there are.
    unknown = {"tie_block": "-"} if strategy_of(manifest.parameters.strategy).passes else {}
    rows = [_row(source | unknown, ends) for source in sources.to_pylist()]
    if manifest.parameters.scope == "global":  # one selection over all sources
        rows.append(_row(_whole(index), ends))
    cuts = [f"{'BIS' * (place == 0)}@{fraction:.0%}" for place, fraction in enumerate(ends)]
    lines: list[str | Table] = [Table(("source", *_COLUMNS, *cuts), rows)]
    if more:
        lines.append(f"and {pluralize(more, 'smaller source')}: bisieve report --index {url} shows all")
    for reason, count in manifest.rejected.items():
        hint = f"; {HINTS[reason]}" if reason in HINTS else ""
        lines.append(f"rejected {count:,} {reason} (first: {manifest.examples[reason]}){hint}")
    if manifest.files_left_out:
        files = pluralize(manifest.files_left_out, "file")
        lines.append(f"skipped {files} of an unsupported kind (first: {manifest.left_out[0]})")
    if manifest.rollouts and written is None:
        corpus, described = _described(index, fractions, selections, exclusion)
        columns = [(f"best {percent(each.fraction)}", each.statistics) for each in described]
        lines.append(statistics_table(corpus, columns))
        lines += [note for each in described for note in each.notes]
    elif manifest.rollouts:
        lines += [note for fraction in fractions for note in ranking_notes(index, fraction)]
    state = {None: "", True: "written; ", False: "up to date, nothing written; "}[written]
    lines.append(
        f"index {url}: {state}{pluralize(manifest.rollouts, 'rollout')} "
        f"of {pluralize(manifest.shards.rows, 'shard')}, fingerprint {manifest.fingerprint[:16]}"
    )
    return Report(*lines)


class _Described(NamedTuple):
    """What is said of a selection."""

    fraction: float
    statistics: Statistics
    ties: CutoffTies | None  # None for a strategy without a score
    notes: list[str]
    parameters: Parameters


def _described(
    index: Index, fractions: Sequence[float], selections: Sequence[Selection], exclusion: Exclusion
) -> tuple[Statistics, list[_Described]]:
    """Return statistics of the corpus, from one pass over the index, and what is said of each selection."""
    parameters = selections[0].parameters if selections else index.manifest.parameters
    fractions = () if selections else fractions
    corpus, found = index_statistics(index, fractions, parameters.threshold, exclusion)
    described = [
        _Described(fraction, its, *ties_and_notes(index, fraction), parameters)
        for fraction, its in zip(fractions, found, strict=True)
    ]
    for one in selections:
        its = statistics_of(one.rows, one.parameters.threshold)
        ties, notes = selection_ties(one, index), selection_notes(one, index)
        described.append(_Described(one.fraction, its, ties, notes, one.parameters))
    for each in described:
        each.notes.extend(shortcut_notes(corpus, each.statistics, each.fraction, each.parameters.strategy))
    return corpus, described


def report_document(
    index: Index, url: str, written: bool | None = None, fractions: Sequence[float] = REPORTED,
    selections: Sequence[Selection] = (), exclusion: Exclusion = NOTHING,
) -> dict[str, Any]:  # fmt: skip
    """Return the numbers of `score_report` for a JSON document, with all sources.

    Args:
        index: The index to summarise.
        url: The URL of the index as the user gave it.
        written: After a run, whether it published a version. None if there was no run: then the statistics of
            the corpus and of each selection are included.
        fractions: Selections to describe, each in (0, 1].
        selections: These in place of ``fractions``.
        exclusion: What they leave out; it is not part of the corpus beside them.
    """
    manifest = index.manifest
    return {
        "index": url,
        "version": manifest.fingerprint,
        **({} if written is None else {"written": written}),
        "parameters": msgspec.to_builtins(manifest.parameters),
        "rollouts": manifest.rollouts,
        "shards": manifest.shards.rows,
        "rejected": manifest.rejected,
        "examples": manifest.examples,
        "files_left_out": manifest.files_left_out,
        "sources": index.sources.to_pylist(),
        "cutoff_scores": [asdict(score) for score in manifest.cutoff_scores],
        **(_selections(index, fractions, selections, exclusion) if written is None else _after_run(index)),
    }


def _selections(
    index: Index, fractions: Sequence[float], selections: Sequence[Selection], exclusion: Exclusion
) -> dict[str, Any]:
    fractions = fractions if index.manifest.rollouts else ()
    corpus, described = _described(index, fractions, selections, exclusion)
    cuts = [
        {
            **_cut(each.fraction, each.ties, each.notes),
            "parameters": msgspec.to_builtins(each.parameters),
            "statistics": each.statistics.numbers(),
        }
        for each in described
    ]
    return {"cuts": cuts, "corpus": corpus.numbers()}


def _after_run(index: Index) -> dict[str, Any]:
    """Return the ties of selections; their statistics would need a pass over all rollouts."""
    fractions = REPORTED if index.manifest.rollouts else ()
    return {"cuts": [_cut(each, *ties_and_notes(index, each)) for each in fractions]}


def _cut(fraction: float, ties: CutoffTies | None, notes: list[str]) -> dict[str, Any]:
    return {"fraction": fraction, **(ties.numbers() if ties else {}), "notes": notes}


def _largest(sources: pa.Table) -> pa.Table:
    order = [("rollouts", "descending"), ("source", "ascending")]
    return sources.take(pc.sort_indices(sources, order)[:SHOWN])


def _row(source: dict[str, Any], fractions: Sequence[float]) -> tuple[str, ...]:
    rollouts = source["rollouts"]
    ends = {score["fraction"]: f"{score['bis']:.4f}" for score in source["cutoff_scores"]}
    return (
        source["source"],
        f"{rollouts:,}",
        f"{source['steps']:,}",
        *(_share(source[name], rollouts) for name in ("mixed", "all_positive", "all_negative")),
        source["tie_block"] if isinstance(source["tie_block"], str) else f"{source['tie_block']:,}",
        f"{sum(reason['records'] for reason in source['rejected']):,}",
        *(ends.get(fraction, "-") for fraction in fractions),
    )


def _whole(index: Index) -> dict[str, Any]:
    """Return a row that sums up all sources."""
    return {
        "source": "all",
        **{name: pc.sum(index.sources[name]).as_py() for name in COUNTED},
        "tie_block": "-",  # the index does not count ties between sources
        "rejected": [{"records": records} for records in index.manifest.rejected.values()],
        "cutoff_scores": [asdict(score) for score in index.manifest.cutoff_scores],
    }


def _share(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else "-"
