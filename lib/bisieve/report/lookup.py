"""One rollout, with what one asks about it: its place, why it is kept or dropped, its text, its question.

id ──`look_up`──▶ row ──`opened`──▶ `LookedUp`: with its text, images, and the others of its question
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bisieve._redact import without_escapes
from bisieve._text import Graded, Quoted, Report, Table, pluralize
from bisieve.errors import UsageError
from bisieve.io.images import is_base64
from bisieve.report.examples import DESCRIBED, Example, is_kept, step_labels, why
from bisieve.report.reading import SMALL, Images, notes_on, read_texts
from bisieve.report.rows import View, rows_with

_NEAR = 5  # places of rollouts with the same id that are named
_MOST_OTHERS = 50  # of a question, in a text
_LABELS = 5  # steps of another rollout, which leave room for its id on a terminal
_IMAGES = 4  # of a rollout


@dataclass(frozen=True)
class LookedUp:
    """A rollout and the others of its question."""

    example: Example
    rollouts: int  # of its source, or of all sources if these are ranked together
    others: Sequence[dict[str, Any]]  # columns `DESCRIBED` with "kept", by (source, rank)
    notes: Sequence[str]  # on what could not be read

    def numbers(self) -> dict[str, Any]:
        """Return everything as a document, without the pixels of the images."""
        rollout = self.example.rollout
        return {
            **self.example.row,
            "ranked": self.rollouts,
            "kept": self.example.kind == "kept",
            "why": self.example.why,
            "question": rollout.question if rollout else None,
            "steps": list(rollout.steps) if rollout else None,
            "images": [name for name in rollout.images if not is_base64(name)] if rollout else None,
            "others": list(self.others),
            "notes": list(self.notes),
        }

    def report(self) -> Report:
        """Return it as text; on a terminal, the MC scores of the steps are coloured.

        Text of the corpus is shown without control characters, which a terminal would obey.
        """
        row, rollout = self.example.row, self.example.rollout
        texts: Sequence[str] = rollout.steps if rollout else [""] * row["num_steps"]
        labels = step_labels(row)
        width = max(map(len, labels))
        images = ", ".join(map(_short, rollout.images)) if rollout else ""
        return Report(
            f"{without_escapes(row['rollout_id'])}  {without_escapes(row['source'])}, "
            f"rank {row['rank']:,} of {self.rollouts:,}",
            self.example.why,
            f"BIS {row['bis']:.4f}, positive {row['num_positive']} of {row['num_steps']} steps, "
            f"p {row['positive_fraction']:.3f}, reliability {row['reliability']:.3f}",
            *([Quoted(f"image: {without_escapes(images)}")] if rollout else []),
            *([Quoted(without_escapes(rollout.question))] if rollout else []),
            *(
                Graded(f"{place:>3} {label:>{width}}", score, without_escapes(text))
                for place, (label, score, text) in enumerate(
                    zip(labels, row["scores"], texts, strict=True), 1
                )
            ),
            *self._others(),
            *(f"note: {note}" for note in self.notes),
        )

    def _others(self) -> list[str | Table]:
        if not self.others:
            return ["no other rollout of this question"]
        head = ("others of the question", "source", "rank", "", "BIS", "steps")
        rows = [
            (
                without_escapes(each["rollout_id"]), without_escapes(each["source"]), f"{each['rank']:,}",
                "kept" if each["kept"] else "dropped", f"{each['bis']:.4f}", _first_labels(each),
            )
            for each in self.others[:_MOST_OTHERS]
        ]  # fmt: skip
        more = len(self.others) - len(rows)
        return [Table(head, rows), *([f"and {pluralize(more, 'other')}; --json has all"] if more else [])]


def look_up(
    view: View, rollout_id: str, source: str | None, image_root: str | None, size: tuple[int, int] = SMALL
) -> LookedUp:
    """Find a rollout by its id; of several with this id, the first by (source, rank).

    Args:
        view: The index and the selection.
        rollout_id: Its id.
        source: Its source; None: any.
        image_root: URL below which its images are; None: only those inside the record are read.
        size: Pixels that its images have at most, width and height.

    Raises:
        UsageError: No rollout has this id, or it is no text.
        IndexUnusableError: A file of the index is missing or damaged.
    """
    if rollout_id in view.exclusion.ids:
        found = look_up(View(view.index, view.fraction, None), rollout_id, source, image_root, size)
        reason = "left out by --exclude; its rank is that in the index"
        example = replace(found.example, kind="dropped", why=reason)
        return replace(found, example=example, others=_of_question(view, example.row["question_id"]))
    for given in (rollout_id, source or ""):
        if not _is_unicode(given):  # bytes of the command line that are no UTF-8
            raise UsageError("an id and a source in UTF-8", ascii(given), "correct it")
    rows = every = rows_with(view, "rollout_id", rollout_id)
    if source is not None:
        rows = rows.filter(pc.equal(rows["source"], source))
    if not rows.num_rows:
        where = f"the index {view.index.url}" if source is None else f"source {source} of {view.index.url}"
        others = sorted({*every["source"].to_pylist()})[:_NEAR]
        hint = f"it is in {', '.join(others)}" if others else _near(view, rollout_id)
        raise UsageError(f"the id of a rollout of {where}", rollout_id, hint)
    found = opened(view, rows.slice(0, 1), image_root, size)
    if rows.num_rows == 1:
        return found
    places = [f"{row['source']} {row['rank']:,}" for row in rows.slice(0, _NEAR).to_pylist()]
    more = ", …" if rows.num_rows > _NEAR else ""
    same = f"{rows.num_rows:,} rollouts have this id, at {', '.join(places)}{more}; this is the first"
    return replace(found, notes=[same, *found.notes])


def opened(
    view: View, rows: pa.Table, image_root: str | None, size: tuple[int, int] = SMALL, most: int = _IMAGES
) -> LookedUp:
    """Return the rollout of a single row (`schemas.INDEX`) of a view with all that is shown of it.

    Args:
        view: The index and the selection.
        rows: The row.
        image_root: As of `look_up`.
        size: As of `look_up`.
        most: Images that are read.
    """
    (row,) = rows.select(DESCRIBED).to_pylist()
    saved: dict[str, bytes] = {}
    (rollout,), problem = read_texts(view, rows, saved)
    images = Images(image_root, saved, size, most)
    shown = images.of(rollout.images) if rollout else ()
    example = Example("kept" if is_kept(row, view) else "dropped", row, why(row, view), rollout, shown)
    others = [
        each
        for each in _of_question(view, row["question_id"])
        if (each["source"], each["rank"]) != (row["source"], row["rank"])
    ]
    counts = view.rollouts_by_source
    ranked = sum(counts.values()) if view.parameters.scope == "global" else counts[row["source"]]
    return LookedUp(example, ranked, others, [*notes_on([rollout], problem), *images.notes])


def _of_question(view: View, question_id: str) -> list[dict[str, Any]]:
    rows = rows_with(view, "question_id", question_id).select(DESCRIBED).to_pylist()
    return [{**row, "kept": is_kept(row, view)} for row in rows]


def _first_labels(row: dict[str, Any]) -> str:
    labels = step_labels(row)
    return " ".join([*labels[:_LABELS], *(["…"] if len(labels) > _LABELS else [])])


def _is_unicode(text: str) -> bool:
    return text == text.encode(errors="replace").decode()


def _short(name: str) -> str:
    return "inside the record" if is_base64(name) else name


def _near(view: View, rollout_id: str) -> str:
    """Return a hint that names ids which begin as ``rollout_id`` does, if there are any."""
    longest, named = 2, list[str]()  # characters that are equal, and the ids that have them
    for rows, _ in view.batches(("source", "rank", "rollout_id")):  # all ids may not fit into memory
        ids = rows["rollout_id"].combine_chunks()
        for length in range(len(rollout_id), max(longest, 3) - 1, -1):
            near = ids.filter(pc.starts_with(ids, rollout_id[:length]))
            if len(near):
                named = named if length == longest else []
                longest, named = length, sorted({*named, *near.to_pylist()}, key=_by_length)[:2]
                break
    return f"did you mean {' or '.join(named)}?" if named else "bisieve explore finds rollouts by their text"


def _by_length(text: str) -> tuple[int, str]:
    return len(text), text
