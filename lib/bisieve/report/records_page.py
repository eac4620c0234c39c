"""The sections of a report that show records: the rejected ones, and rollouts that are kept and dropped."""

from collections.abc import Sequence

from bisieve._text import pluralize
from bisieve.report.examples import KINDS, MOST_STEPS, Example, Examples, cut
from bisieve.report.page import Block, Card, Cards, Cell, Column, Note, Section, Step, Table
from bisieve.report.rejects import Reject


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
    intro = "A step's colour and number are its MC score: K of N continuations were right."
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
    correct, total = row["mc_correct"], row["mc_total"]
    steps = [
        Step(cut(text), score, f"{correct[n]}/{total[n]}" if correct and total else f"{score:.3g}")
        for n, (text, score) in enumerate(zip(texts, row["scores"], strict=True))
    ][:MOST_STEPS]
    title = f"{row['source']}, rank {row['rank']:,}"
    return Card(
        title, facts, f"{example.why}.", cut(rollout.question) if rollout else "", example.images, steps
    )
