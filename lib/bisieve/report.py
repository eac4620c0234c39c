"""The terminal's summary of an index."""

from bisieve.manifest import CutScore, Manifest, SourceTotals
from bisieve.ranked import REPORTED
from bisieve.table import aligned
from bisieve.wording import counted

_COLUMNS = ("rollouts", "steps", "mixed", "all +", "all -", "tie block", "rejected")


def score_report(manifest: Manifest, index: str, written: bool | None = None) -> str:
    """A table with a line a source, the rejects by reason with an example each, and where the index lies.

    The last columns are the cut scores: the BIS of the last rollout that the best 5, 10, 25 and 50 % take.
    ``written`` tells whether a run had work to do; None where there was no run.
    """
    cuts = [f"{'BIS' * (place == 0)}@{fraction:.0%}" for place, fraction in enumerate(REPORTED)]
    lines = aligned([("source", *_COLUMNS, *cuts), *_rows(manifest)])
    for reason, count in manifest.rejected.items():
        lines.append(f"rejected {count} {reason} (first: {manifest.examples[reason]})")
    state = {None: "", True: "written; ", False: "up to date, nothing written; "}[written]
    lines.append(
        f"index {index}: {state}{counted(manifest.rollouts, 'rollout')} "
        f"of {counted(manifest.num_shards, 'shard')}, fingerprint {manifest.fingerprint[:16]}"
    )
    return "\n".join(lines)


def _rows(manifest: Manifest) -> list[tuple[str, ...]]:
    rows = [_row(totals, totals.source, manifest.cut_scores) for totals in manifest.sources]
    if manifest.parameters.scope == "global":  # the cut is one over all
        rows.append(_row(_whole(manifest.sources), None, manifest.cut_scores))
    return rows


def _row(totals: SourceTotals, source: str | None, scores: list[CutScore]) -> tuple[str, ...]:
    ends = {score.fraction: f"{score.bis:.4f}" for score in scores if score.source == source}
    return (
        totals.source,
        str(totals.rollouts),
        str(totals.steps),
        *(_share(n, totals.rollouts) for n in (totals.mixed, totals.all_positive, totals.all_negative)),
        str(totals.tie_block) if source is not None else "-",
        str(sum(totals.rejected.values())),
        *(ends.get(fraction, "-") for fraction in REPORTED),
    )


def _whole(sources: list[SourceTotals]) -> SourceTotals:
    def total(name: str) -> int:
        return sum(getattr(source, name) for source in sources)

    names = ("rollouts", "steps", "mixed", "all_positive", "all_negative")
    rejected = {"any": sum(sum(source.rejected.values()) for source in sources)}
    # How many rollouts of different sources share a score is nowhere counted.
    return SourceTotals("all", **{name: total(name) for name in names}, tie_block=0, rejected=rejected)


def _share(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else "-"
