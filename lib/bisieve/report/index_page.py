"""The page of an index: its sections, in the order in which one asks about a selection."""

from collections.abc import Sequence
from dataclasses import asdict

from bisieve._text import percent, pluralize
from bisieve.index.statistics import Statistics
from bisieve.report.aggregates import KEPT, MOST_SOURCES
from bisieve.report.collect import IndexReport
from bisieve.report.cost import (
    BYTES_PER_TOKEN,
    FLOPS_PER_SECOND,
    MODEL_PARAMETERS,
    TOKENS_OF_AN_IMAGE,
)
from bisieve.report.examples import KINDS, MOST_STEPS, Example, Examples, Reject, cut, step_labels
from bisieve.report.index_charts import (
    mc_charts,
    negatives_charts,
    parts_chart,
    questions_chart,
    score_chart,
    sources_chart,
)
from bisieve.report.other_selections import beside_table, compared_section, what_if_section
from bisieve.report.page import (
    Block,
    Card,
    Cards,
    Cell,
    Charts,
    Column,
    Findings,
    Note,
    Page,
    Section,
    Step,
    Table,
    Tile,
    Tiles,
    decimal,
    percent_of,
    percentage,
    share_of,
    short,
)
from bisieve.report.verdict import verdict
from bisieve.tools.selection_notes import statistics_table


def index_page(report: IndexReport) -> Page:
    """Return the page of a report of an index; its numbers are those of the largest sources."""
    view, parameters = report.view, report.view.parameters
    alpha = f"α {parameters.alpha:g}, " if parameters.strategy == "bis" else ""
    over = "of each source" if parameters.scope == "source" else "over all sources"
    subtitle = (
        f"best {percent(view.fraction)} {over} by {parameters.strategy}, {alpha}ties by {parameters.ties}; "
        f"{pluralize(view.rollouts, 'rollout')} in {report.name}, version {view.index.fingerprint[:16]}"
    )
    findings = verdict(report)
    if not view.rollouts:
        sections = [Section("Verdict", [Findings(findings)]), rejects_section(report.rejects)]
    else:
        found = report.counts.corpus.statistics(), report.counts.kept.statistics()
        sections = [
            Section("Verdict", [Findings(findings)]),
            _sources(report, found),
            *compared_section(report),
            _score(report),
            _steps(report, found),
            _questions(report, *found),
            _cost(report),
            what_if_section(report),
            rejects_section(report.rejects),
            rollouts_section(report.examples),
        ]
    numbers = {**report.numbers(MOST_SOURCES), "verdict": [asdict(each) for each in findings]}
    return Page("Selection report", subtitle, sections, numbers)


def _sources(report: IndexReport, found: tuple[Statistics, Statistics]) -> Section:
    corpus, kept = found
    total, selected = report.counts.total("rollouts")
    tiles = [
        Tile("rollouts", f"{selected:,}", f"{total:,}", f"{share_of(selected, total) or 0:.2%} kept"),
        Tile("questions", f"{kept.questions:,}", f"{corpus.questions:,}"),
        Tile(
            "mixed rollouts",
            percent_of(kept.mixed, kept.rollouts),
            percent_of(corpus.mixed, corpus.rollouts),
        ),
        Tile("negative steps", percentage(kept.negative_share), percentage(corpus.negative_share)),
        Tile("AUC of position → label", decimal(kept.shortcut), decimal(corpus.shortcut)),
    ]
    beside = statistics_table(corpus, [("selection", kept)])
    blocks: list[Block] = [
        Tiles(tiles),
        *sources_chart(report.counts),
        _sources_table(report),
        beside_table(beside),
    ]
    return Section("What is kept, and from where", blocks)


def _sources_table(report: IndexReport) -> Table:
    """Return a row for each of the largest sources; of two counts in it the first is of the corpus."""
    counts, rejected = report.counts, report.rejected_by_source
    _, selected = counts.total("rollouts")
    columns = [
        Column("source"),
        Column("rollouts", "count"),
        Column("kept", "count"),
        Column("share kept", "percent"),
        Column("of the selection", "percent"),
        Column("mixed", "percent"),
        Column("mixed of kept", "percent"),
        Column("negative steps", "percent"),
        Column("negative of kept", "percent"),
        Column("lowest BIS kept", "number"),
        Column("rejected", "count"),
    ]
    both = {name: (values.sum(axis=0), values[KEPT]) for name, values in counts.by_source.items()}
    rows: list[list[Cell]] = []
    for n in counts.largest(MOST_SOURCES):
        name, (rollouts, kept) = counts.names[n], (int(side[n]) for side in both["rollouts"])
        mixed, negative, steps = (
            [int(side[n]) for side in both[what]] for what in ("mixed", "negative_steps", "steps")
        )
        rows.append(
            [
                name,
                rollouts,
                kept,
                share_of(kept, rollouts),
                share_of(kept, selected),
                share_of(mixed[0], rollouts),
                share_of(mixed[1], kept),
                share_of(negative[0], steps[0]),
                share_of(negative[1], steps[1]),
                float(counts.lowest[n]),
                rejected.get(name, 0),
            ]
        )
    has_more = len(counts.names) > len(rows)
    note = f"The {MOST_SOURCES} largest of {len(counts.names):,} sources; --json has all." if has_more else ""
    return Table(columns, rows, note)


def _score(report: IndexReport) -> Section:
    has_alpha = report.view.parameters.strategy == "bis"
    intro = "BIS = (mixture + α) · reliability. Mixture p(1−p) is 0 where all steps have the same label."
    if not has_alpha:
        intro += f" This selection is by {report.view.parameters.strategy}, so the BIS does not decide."
    counts = report.counts
    return Section("Score", [Charts([score_chart(counts, has_alpha), parts_chart(counts, has_alpha)])], intro)


def _steps(report: IndexReport, found: tuple[Statistics, Statistics]) -> Section:
    intro = "If late steps are nearly always negative, a model can learn the position in place of the image."
    charts = [Charts(negatives_charts(report.counts, found)), Charts(mc_charts(report.counts))]
    return Section("Steps", charts, intro)


def _questions(report: IndexReport, corpus: Statistics, kept: Statistics) -> Section:
    tiles = Tiles(
        [
            Tile("questions covered", f"{kept.questions:,}", f"{corpus.questions:,}"),
            Tile(
                "rollouts a question",
                decimal(kept.rollouts_per_question),
                decimal(corpus.rollouts_per_question),
            ),
            Tile("most of one question", f"{kept.most_of_a_question:,}", f"{corpus.most_of_a_question:,}"),
        ]
    )
    return Section("Questions", [tiles, questions_chart(report.counts)])


def _cost(report: IndexReport) -> Section:
    was, now = report.costs["corpus"], report.costs["selection"]
    tiles = [Tile("steps", f"{now.steps:,}", f"{was.steps:,}")]
    if now.tokens is None or was.tokens is None:
        text = "Tokens and hours are not estimated, since no text could be read."
    else:
        tiles.append(Tile("tokens, estimated", short(now.tokens), short(was.tokens)))
        tiles.append(Tile("GPU hours, rough", short(now.gpu_hours or 0), short(was.gpu_hours or 0)))
        text = (
            f"One epoch without packing. Tokens: text of the rollouts below, {BYTES_PER_TOKEN:g} bytes each, "
            f"and {TOKENS_OF_AN_IMAGE:,} for an image. Hours: 6 FLOPs for each token and each of "
            f"{MODEL_PARAMETERS / 1e9:g}·10⁹ parameters, at {FLOPS_PER_SECOND / 1e12:g} TFLOP/s. "
            "bisieve train --dry-run computes both for a backbone."
        )
    return Section("Cost", [Tiles(tiles), Note(text, is_small=True)])


def rejects_section(rejects: Sequence[Reject]) -> Section:
    """Return the rejected records by reason, with examples."""
    if not rejects:
        return Section("Rejects", [Note("No record was rejected.")])
    rows: list[list[Cell]] = []
    for reject in rejects:
        for number, (place, text) in enumerate(reject.examples or [("", None)]):
            first = number == 0
            rows.append([
                reject.reason, reject.records if first else None, place,
                text if text is not None else "(not readable here)", reject.hint if first else "",
            ])  # fmt: skip
    columns = [
        Column("reason"),
        Column("records", "count"),
        Column("example"),
        Column("its beginning"),
        Column("hint"),
    ]
    total = sum(reject.records for reject in rejects)
    return Section(
        "Rejects", [Table(columns, rows)], f"{pluralize(total, 'record')} cannot be used, by reason."
    )


def rollouts_section(examples: Examples) -> Section:
    """Return the rollouts to look at, by kind."""
    titles = ("Kept, from the best on", "Just kept", "Just dropped", "Dropped, down to the last")
    blocks: list[Block] = [
        Cards(title, cards)
        for kind, title in zip(KINDS, titles, strict=True)
        if (cards := [_card(each) for each in examples.found if each.kind == kind])
    ]
    intro = (
        "A step's colour and number are its MC score: K of N continuations were right, or a score without "
        "counts."
    )
    return Section("Rollouts", blocks, intro)


def _card(example: Example) -> Card:
    row, rollout = example.row, example.rollout
    facts = {
        "BIS": f"{row['bis']:.4f}",
        "p": f"{row['positive_fraction']:.3f}",
        "R": f"{row['reliability']:.3f}",
        "steps": f"{row['num_steps']}",
        "id": row["rollout_id"],
    }
    texts = rollout.steps if rollout else [""] * len(row["scores"])
    steps = [
        Step(cut(text), score, label if "/" in label else f"score {label}")
        for text, score, label in zip(texts, row["scores"], step_labels(row), strict=True)
    ][:MOST_STEPS]
    title = f"{row['source']}, rank {row['rank']:,}"
    return Card(
        title, facts, f"{example.why}.", cut(rollout.question) if rollout else "", example.images, steps
    )
