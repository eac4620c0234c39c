"""Sections of a report on other selections: of another index, of another fraction, by another α."""

from bisieve._text import Table as TextTable
from bisieve._text import percent
from bisieve.index.statistics import Statistics
from bisieve.report.aggregates import MOST_SOURCES
from bisieve.report.collect import IndexReport
from bisieve.report.index_charts import what_if_chart
from bisieve.report.page import (
    Block,
    Cell,
    Column,
    Dial,
    Dials,
    Note,
    Section,
    Table,
    Tile,
    Tiles,
    decimal,
    percent_of,
    percentage,
    share_of,
)
from bisieve.report.what_if import Sample
from bisieve.tools.selection_notes import statistics_table


def beside_table(table: TextTable) -> Table:
    """Return a table of the terminal, whose first column has names and whose others have numbers."""
    first, *others = table.head
    columns = [Column(first), *(Column(title, "figure") for title in others)]
    return Table(columns, list(table.rows), is_sortable=False)


def compared_section(report: IndexReport) -> list[Section]:
    """Return the section that compares the selection with that of another index; [] without one."""
    other = report.other
    if other is None:
        return []
    here, there, both = (
        sum(column) for column in zip((0, 0, 0), *other.summary.sources.values(), strict=True)
    )
    tiles = [
        Tile("in both selections", f"{both:,}"),
        Tile("only here", f"{here - both:,}"),
        Tile("only in the other", f"{there - both:,}"),
        Tile("overlap", percent_of(both, here + there - both)),
    ]
    words = {"left": "only here", "entered": "only in the other"}
    reasons: list[list[Cell]] = [
        [words[change], reason, count] for (change, reason), count in other.summary.reasons.most_common()
    ]
    sources: list[list[Cell]] = [
        [name, a, b, kept, share_of(kept, a + b - kept)]
        for name, (a, b, kept) in other.summary.sources.items()
    ]
    counted = [Column(name, "count") for name in ("here", "other", "both")]
    columns = [Column("source"), *counted, Column("overlap", "percent")]
    beside = statistics_table(
        report.counts.corpus.statistics(),
        [("selection", report.counts.kept.statistics()), ("the other", other.counts.kept.statistics())],
    )
    blocks: list[Block] = [
        Tiles(tiles),
        Table([Column("rollouts"), Column("reason"), Column("number", "count")], reasons),
        Table(columns, sorted(sources, key=lambda row: -float(row[1] or 0))[:MOST_SOURCES]),
        beside_table(beside),
    ]
    intro = f"The same fraction of {other.name}. Reasons are those of bisieve diff, from here to the other."
    return [Section("Beside another index", blocks, intro)]


def what_if_section(report: IndexReport) -> Section:
    """Return the section on other fractions and α."""
    title, found = "What another fraction or α would keep", report.what_if
    if found is None:
        one_in = Sample(report.view.rollouts).one_in
        text = f"Not computed: only one question in {one_in:,} is looked at, and this index has too few."
        return Section(title, [Note(text)])
    parameters, fraction = report.view.parameters, report.view.fraction
    cells = [its for row in found.found for its in row]
    is_exact = found.one_in == 1
    rows = {
        "rollouts kept": [
            f"{its.rollouts:,}" if is_exact else _share_text(its, found.sampled) for its in cells
        ],
        "questions covered": [percent_of(its.questions, found.questions) for its in cells],
        "rollouts a question": [decimal(its.rollouts_per_question) for its in cells],
        "mixed": [percent_of(its.mixed, its.rollouts) for its in cells],
        "all positive": [percent_of(its.all_positive, its.rollouts) for its in cells],
        "all negative": [percent_of(its.all_negative, its.rollouts) for its in cells],
        "negative steps": [percentage(its.negative_share) for its in cells],
        "AUC of position → label": [decimal(its.shortcut) for its in cells],
    }
    dials = [Dial("fraction", [percent(share) for share in found.fractions], found.fractions.index(fraction))]
    if len(found.alphas) > 1:
        dials.insert(
            0, Dial("α", [f"{alpha:g}" for alpha in found.alphas], found.alphas.index(parameters.alpha))
        )
    how = "of all rollouts" if is_exact else (
        f"of {found.sampled:,} rollouts: all of one question in {found.one_in}, so numbers differ a little"
    )  # fmt: skip
    note = f"Computed {how}; equal scores are in the order of the index."
    blocks: list[Block] = [Dials(dials, rows, note), what_if_chart(found, parameters.alpha, fraction)]
    return Section(title, blocks)


def _share_text(its: Statistics, sampled: int) -> str:
    return f"{percent_of(its.rollouts, sampled)} of all"
