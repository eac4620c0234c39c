"""The terminal's summary of an index."""

from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bisieve._text import aligned, pluralize
from bisieve.index.reader import Index
from bisieve.index.writer import REPORTED
from bisieve.records.model import HINTS
from bisieve.scan.chunks import COUNTED

SHOWN = 100  # sources that a run shows
_COLUMNS = ("rollouts", "steps", "mixed", "all +", "all -", "tie block", "rejected")


def score_report(index: Index, url: str, written: bool | None = None) -> str:
    """A table with a line a source, the rejects by reason with an example each, and where the index lies.

    The last columns are the cutoff scores: the BIS of the last rollout that the best 5, 10, 25 and 50 % take.
    ``written`` tells whether a run had work to do; None where there was no run.  After a run, of very many
    sources the largest are shown.
    """
    manifest = index.manifest
    more = 0 if written is None else max(index.sources.num_rows - SHOWN, 0)
    sources = _largest(index.sources) if more else index.sources
    rows = [_row(source) for source in sources.to_pylist()]
    if manifest.parameters.scope == "global":  # the selection is one over all
        rows.append(_row(_whole(index)))
    cuts = [f"{'BIS' * (place == 0)}@{fraction:.0%}" for place, fraction in enumerate(REPORTED)]
    lines = aligned([("source", *_COLUMNS, *cuts), *rows])
    if more:
        lines.append(f"and {pluralize(more, 'smaller source')}: bisieve report --index {url} shows all")
    for reason, count in manifest.rejected.items():
        hint = f"; {HINTS[reason]}" if reason in HINTS else ""
        lines.append(f"rejected {count} {reason} (first: {manifest.examples[reason]}){hint}")
    if manifest.files_left_out:
        files = pluralize(manifest.files_left_out, "file")
        lines.append(f"left out {files} of another kind (first: {manifest.left_out[0]})")
    state = {None: "", True: "written; ", False: "up to date, nothing written; "}[written]
    lines.append(
        f"index {url}: {state}{pluralize(manifest.rollouts, 'rollout')} "
        f"of {pluralize(manifest.shards.rows, 'shard')}, fingerprint {manifest.fingerprint[:16]}"
    )
    return "\n".join(lines)


def _largest(sources: pa.Table) -> pa.Table:
    order = [("rollouts", "descending"), ("source", "ascending")]
    return sources.take(pc.sort_indices(sources, order)[:SHOWN])


def _row(source: dict[str, Any]) -> tuple[str, ...]:
    rollouts = source["rollouts"]
    ends = {score["fraction"]: f"{score['bis']:.4f}" for score in source["cutoff_scores"]}
    return (
        source["source"],
        str(rollouts),
        str(source["steps"]),
        *(_share(source[name], rollouts) for name in ("mixed", "all_positive", "all_negative")),
        str(source["tie_block"]),
        str(sum(reason["records"] for reason in source["rejected"])),
        *(ends.get(fraction, "-") for fraction in REPORTED),
    )


def _whole(index: Index) -> dict[str, Any]:
    """All sources as one."""
    return {
        "source": "all",
        **{name: pc.sum(index.sources[name]).as_py() for name in COUNTED},
        "tie_block": "-",  # how many rollouts of different sources share a score is nowhere counted
        "rejected": [{"records": records} for records in index.manifest.rejected.values()],
        "cutoff_scores": [asdict(score) for score in index.manifest.cutoff_scores],
    }


def _share(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else "-"
