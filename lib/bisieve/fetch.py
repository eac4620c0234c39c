"""Fetches rollouts through their spans: rows of an index in, their text out."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from fsspec.utils import merge_offset_ranges

from bisieve import records
from bisieve.errors import IndexUnusableError
from bisieve.lines import codec_of, open_text
from bisieve.reading import read_ranges
from bisieve.records import Layout, Rollout
from bisieve.storage import storage_errors

# What a request costs, in bytes that could be read instead: a gap below it is read, one above it is jumped,
# so what is read for nothing never costs more than the requests that it spares.  s3fs takes 1 to 3 ms a
# request, many at once; at 64 to 100 MB/s 64 to 300 KiB come in that.  The lower end: bandwidth is shared.
REQUEST_BYTES = 64 * 2**10
_MAX_READ = 16 * 2**20
_CHUNK, _STREAMED = 2**11, 2**15  # rollouts fetched at once

Span = tuple[str, int, int]  # shard, offset, length


def fetch_rollouts(rows: pa.Table, layout: Layout) -> list[Rollout]:
    """The rollouts of ``rows`` (of `schema.INDEX`), in their order.

    Neighbouring spans are read in one request.  `IndexUnusableError` when a span no longer holds the record
    it was made of; `StorageError` when a shard cannot be read.
    """
    spans = [
        [(span["shard"], span["offset"], span["length"]) for span in row] for row in rows["spans"].to_pylist()
    ]
    lines = _read_spans(sorted({span for row in spans for span in row}))
    ids = rows["rollout_id"].to_pylist()
    decode = records.record_decoder(layout, None)
    build = _from_rollout if layout == "rollouts" else _from_steps
    rollouts = []
    for rollout_id, row, scores in zip(ids, spans, rows["scores"].to_pylist(), strict=True):
        try:
            rollout = build(rollout_id, [decode(lines[span]) for span in row])
        except (msgspec.MsgspecError, ValueError):
            rollout = None
        if rollout is None or rollout.scores != tuple(scores):
            shard, offset, _ = row[0]
            raise IndexUnusableError(
                f"rollout {rollout_id} at {shard}@{offset}", "another text there", "run bisieve score again"
            )
        rollouts.append(rollout)
    return rollouts


def fetch_in_chunks(rows: pa.Table, layout: Layout) -> Iterator[list[Rollout]]:
    """`fetch_rollouts`, some thousand rollouts at a time."""
    for chunk in in_chunks(rows):
        yield fetch_rollouts(chunk, layout)


def fetch_records(rows: pa.Table) -> list[bytes]:
    """The records of ``rows`` (of `schema.INDEX`) as they stand in their shards, without line ends."""
    spans = [
        (span["shard"], span["offset"], span["length"]) for row in rows["spans"].to_pylist() for span in row
    ]
    lines = _read_spans(sorted(set(spans)))
    return [lines[span] for span in spans]


def in_chunks(rows: pa.Table) -> Iterator[pa.Table]:
    """``rows`` in parts to be fetched at once: a compressed shard is read from its start for each of them."""
    size = _STREAMED if compressed_shards(rows) else _CHUNK
    return (rows.slice(start, size) for start in range(0, rows.num_rows, size))


def compressed_shards(rows: pa.Table) -> list[str]:
    """The shards of ``rows`` that cannot be read from any place on."""
    shards = pc.unique(pc.struct_field(rows["spans"].combine_chunks().flatten(), "shard"))
    return [shard for shard in shards.to_pylist() if codec_of(shard) is not None]


def _read_spans(spans: Sequence[Span]) -> dict[Span, bytes]:
    """The bytes of every span; ``spans`` are ordered."""
    lines: dict[Span, bytes] = {}
    for shard in dict.fromkeys(span[0] for span in spans):
        wanted = [span for span in spans if span[0] == shard]
        if codec_of(shard) is not None:
            lines |= _read_streamed(shard, wanted)
            continue
        starts = [offset for _, offset, _ in wanted]
        ends = [offset + length for _, offset, length in wanted]
        _, begins, behind = merge_offset_ranges([shard] * len(wanted), starts, ends, REQUEST_BYTES, _MAX_READ)
        blocks = read_ranges(shard, begins, behind)
        block = 0
        for span, start, end in zip(wanted, starts, ends, strict=True):
            while end > behind[block]:
                block += 1
            base = begins[block]
            lines[span] = blocks[block][start - base : end - base]
    return lines


def _read_streamed(shard: str, wanted: Sequence[Span]) -> dict[Span, bytes]:
    lines, position = {}, 0
    with storage_errors(shard), open_text(shard) as file:
        for span in wanted:
            _, offset, length = span
            while position < offset and (skipped := file.read(min(offset - position, _MAX_READ))):
                position += len(skipped)
            lines[span] = file.read(length)
            position += len(lines[span])
    return lines


def _from_rollout(rollout_id: str, found: list[records.RolloutRecord]) -> Rollout | None:
    (record,) = found
    if records.rollout_reason(record) is not None:
        return None
    steps = record.steps_with_score
    return Rollout(
        rollout_id=rollout_id,
        image=record.image,
        question=records.question_of(record.question_orig, record.question),
        steps=tuple(step.step.strip() for step in steps),
        scores=tuple(step.score for step in steps),
        **_counts(steps),
    )


def _from_steps(rollout_id: str, found: list[records.StepRecord]) -> Rollout | None:
    head = found[0]
    scores = [records.step_score(record) for record in found]
    if head.image is None or any(str(record.rollout_id) != rollout_id for record in found):
        return None
    return Rollout(
        rollout_id=rollout_id,
        image=head.image,
        question=records.question_of(head.question_orig, head.question),
        steps=tuple(record.step.strip() for record in found),
        scores=tuple(score for score in scores if score is not None),
        **_counts(found),
    )


def _counts(steps: Sequence[Any]) -> dict[str, tuple[int, ...] | None]:
    counts = [known for step in steps if (known := records.step_counts(step)) is not None]
    if len(counts) < len(steps):
        return {"mc_correct": None, "mc_total": None}
    return {"mc_correct": tuple(k for k, _ in counts), "mc_total": tuple(n for _, n in counts)}
