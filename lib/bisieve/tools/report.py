"""Summarise an index for the terminal."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from bisieve._text import Report, Table, pluralize
from bisieve.index.cutoffs import cutoff_ties
from bisieve.index.reader import Index
from bisieve.index.writer import REPORTED
from bisieve.records.model import HINTS
from bisieve.scan.chunks import COUNTED
from bisieve.tools.cut_notes import cut_notes, tie_notes

SHOWN = 100  # sources in the table after a run; `bisieve report` shows all
_NOTED = (0.10, 0.25)  # fractions that the paper reports, whose ties are shown
_COLUMNS = ("rollouts", "steps", "mixed", "all +", "all -", "ties", "rejected")


def score_report(index: Index, url: str, written: bool | None = None) -> Report:
    """Return the summary of an index as text of several lines.

    It has a table with a line per source, a line per reject reason with its count and first example, the
    number of files of an unsupported kind, the ties at the end of the best 10 and 25 %, and a line with the
    index's URL and fingerprint. If the strategy is ``bis``, the last columns of the table are the cutoff
    scores: the BIS of the last rollout in the best 5, 10, 25 and 50 %.

    Args:
        index: The index to summarise.
        url: The URL of the index as the user gave it.
        written: After a run, whether it published a version; then the table shows the `SHOWN` largest sources
            only. None if there was no run: all sources are shown.
    """
    manifest = index.manifest
    more = 0 if written is None else max(index.sources.num_rows - SHOWN, 0)
    sources = _largest(index.sources) if more else index.sources
    # Where a selection by another key ends, the BIS says nothing.
    fractions = REPORTED if manifest.parameters.strategy == "bis" else ()
    rows = [_row(source, fractions) for source in sources.to_pylist()]
    if manifest.parameters.scope == "global":  # one selection over all sources
        rows.append(_row(_whole(index), fractions))
    cuts = [f"{'BIS' * (place == 0)}@{fraction:.0%}" for place, fraction in enumerate(fractions)]
    table, lines = Table(("source", *_COLUMNS, *cuts), rows), []
    if more:
        lines.append(f"and {pluralize(more, 'smaller source')}: bisieve report --index {url} shows all")
    for reason, count in manifest.rejected.items():
        hint = f"; {HINTS[reason]}" if reason in HINTS else ""
        lines.append(f"rejected {count:,} {reason} (first: {manifest.examples[reason]}){hint}")
    if manifest.files_left_out:
        files = pluralize(manifest.files_left_out, "file")
        lines.append(f"skipped {files} of an unsupported kind (first: {manifest.left_out[0]})")
    for fraction in _NOTED if manifest.rollouts else ():
        lines += tie_notes(index, fraction)
    state = {None: "", True: "written; ", False: "up to date, nothing written; "}[written]
    lines.append(
        f"index {url}: {state}{pluralize(manifest.rollouts, 'rollout')} "
        f"of {pluralize(manifest.shards.rows, 'shard')}, fingerprint {manifest.fingerprint[:16]}"
    )
    return Report(table, *lines)


def report_document(index: Index, url: str, written: bool | None = None) -> dict[str, Any]:
    """Return the numbers of `score_report` for a JSON document, with all sources and the ties of each cut.

    Args:
        index: The index to summarise.
        url: The URL of the index as the user gave it.
        written: After a run, whether it published a version.
    """
    manifest = index.manifest
    is_bis = manifest.parameters.strategy == "bis" and manifest.rollouts
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
        "cuts": [_cut(index, fraction) for fraction in (REPORTED if is_bis else ())],
    }


def _cut(index: Index, fraction: float) -> dict[str, Any]:
    ties = cutoff_ties(index, fraction).numbers()
    return {"fraction": fraction, **ties, "notes": cut_notes(index, fraction)}


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
