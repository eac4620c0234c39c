"""The terminal's summary of a scoring run."""

from bisieve.manifest import Manifest

_COLUMNS = ("rollouts", "steps", "mixed", "all +", "all -", "tie block", "rejected")


def score_report(manifest: Manifest, index: str, written: bool) -> str:
    """A table with a line a source, the rejects by reason with an example each, and where the index lies."""
    rows = [
        (
            source.source,
            source.rollouts,
            source.steps,
            *(
                _share(count, source.rollouts)
                for count in (source.mixed, source.all_positive, source.all_negative)
            ),
            source.tie_block,
            sum(source.rejected.values()),
        )
        for source in manifest.sources
    ]
    cells = [("source", *_COLUMNS), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in cells
    ]
    for reason, count in manifest.rejected.items():
        lines.append(f"rejected {count} {reason} (first: {manifest.examples[reason]})")
    state = "written" if written else "up to date, nothing written"
    lines.append(
        f"index {index}: {state}; {manifest.rollouts} rollouts of {manifest.num_shards} shards, "
        f"fingerprint {manifest.fingerprint[:16]}"
    )
    return "\n".join(lines)


def _share(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else "-"
