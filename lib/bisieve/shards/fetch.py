"""Fetches rollouts through their spans: rows of an index in, their text out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from bisieve import records
from bisieve.decoding import record_converter, record_decoder
from bisieve.embedded import Save, located
from bisieve.errors import IndexUnusableError
from bisieve.reading import KnownShards, Layout, Reading
from bisieve.records import Rollout
from bisieve.shards import is_parquet, is_seekable
from bisieve.spans import Span, read_spans

_CHUNK, _STREAMED = 2**11, 2**15  # rollouts fetched at once


def fetch_rollouts(rows: pa.Table, shards: KnownShards, save: Save | None = None) -> list[Rollout]:
    """The rollouts of ``rows`` (of `schema.INDEX`), in their order, their images where they lie.

    Neighbouring spans are read in one request.  `IndexUnusableError` when a span no longer holds the record
    it was made of; `StorageError` when a shard cannot be read.  ``save`` makes files of images that are in
    the records, and names them; without it they have the names that the index knows, or stay in base64.
    """
    spans = spans_of(rows)
    locate = partial(located, reading=shards.reading, save=save)
    found = read_spans(sorted({span for row in spans for span in row}), shards, locate)
    read, build = _readers(shards.reading), {"rollouts": _from_rollout, "steps": _from_steps}
    rollouts = []
    ids, scores = rows["rollout_id"].to_pylist(), rows["scores"].to_pylist()
    for rollout_id, row, expected in zip(ids, spans, scores, strict=True):
        layout = shards.layouts[row[0][0]]
        try:
            typed = [read[layout, is_parquet(span[0])](found[span]) for span in row]
            rollout = build[layout](rollout_id, typed)
        except (msgspec.MsgspecError, ValueError, KeyError):
            rollout = None
        if rollout is None or rollout.scores != tuple(expected):
            raise changed_record(rollout_id, row)
        if not is_parquet(row[0][0]):
            rollout = replace(rollout, image=locate(rollout.image, "{}@{}".format(*row[0])))
        rollouts.append(rollout)
    return rollouts


def fetch_in_chunks(rows: pa.Table, shards: KnownShards, save: Save | None = None) -> Iterator[list[Rollout]]:
    """`fetch_rollouts`, some thousand rollouts at a time."""
    for chunk in in_chunks(rows):
        yield fetch_rollouts(chunk, shards, save)


def in_chunks(rows: pa.Table) -> Iterator[pa.Table]:
    """``rows`` in parts to be fetched at once: for each, a shard that is not seekable is read anew."""
    size = _STREAMED if unseekable_shards(rows) else _CHUNK
    return (rows.slice(start, size) for start in range(0, rows.num_rows, size))


def unseekable_shards(rows: pa.Table) -> list[str]:
    """The shards of ``rows`` that cannot be read from any place on."""
    shards = pc.unique(pc.struct_field(rows["spans"].combine_chunks().flatten(), "shard"))
    return [shard for shard in shards.to_pylist() if not is_seekable(shard)]


def spans_of(rows: pa.Table) -> list[list[Span]]:
    """The spans of each row of `schema.INDEX`."""
    return [
        [(span["shard"], span["offset"], span["length"]) for span in row] for row in rows["spans"].to_pylist()
    ]


def changed_record(rollout_id: str, spans: Sequence[Span]) -> IndexUnusableError:
    """What to raise where the spans of a rollout do not hold it."""
    shard, offset, _ = spans[0]
    return IndexUnusableError(
        f"rollout {rollout_id} at {shard}@{offset}", "another text there", "run bisieve score again"
    )


def _readers(reading: Reading) -> dict[tuple[Layout, bool], Callable[[Any], Any]]:
    """What makes a typed record of what lies at a span, by layout and whether it is a row."""
    layouts: tuple[Layout, ...] = ("rollouts", "steps")
    return {
        (layout, is_row): (record_converter if is_row else record_decoder)(layout, reading)
        for layout, is_row in product(layouts, (False, True))
    }


def _from_rollout(rollout_id: str, found: list[Any]) -> Rollout | None:
    (record,) = found
    if records.rollout_reason(record) is not None:
        return None
    steps = record.steps_with_score
    return Rollout(
        rollout_id=rollout_id,
        image=record.image,
        question=records.question_of(record.question_orig, record.question),
        steps=tuple(step.step.strip() for step in steps),
        scores=tuple(float(step.score) for step in steps),
        **_counts(steps),
    )


def _from_steps(rollout_id: str, found: list[Any]) -> Rollout | None:
    head = found[0]
    scores = [records.step_score(record) for record in found]
    if head.image is None or any(str(record.rollout_id) != rollout_id for record in found):
        return None
    return Rollout(
        rollout_id=rollout_id,
        image=head.image,
        question=records.question_of(head.question_orig, head.question),
        steps=tuple(record.step.strip() for record in found),
        scores=tuple(float(score) for score in scores if score is not None),
        **_counts(found),
    )


def _counts(steps: Sequence[Any]) -> dict[str, tuple[int, ...] | None]:
    counts = [known for step in steps if (known := records.step_counts(step)) is not None]
    if len(counts) < len(steps):
        return {"mc_correct": None, "mc_total": None}
    return {"mc_correct": tuple(k for k, _ in counts), "mc_total": tuple(n for _, n in counts)}
