"""Fetch rollouts by their spans: rows of an index in, rollouts with their text out.

`fetch_rollouts` checks that each span still has the record that was scored; `read_spans` and `each_span`
return the raw records.  How the spans of a shard are read depends on its format:

    plain JSONL        byte ranges, neighbouring ones merged into one request
    compressed JSONL   the text from the start of the shard to the last span, once for each call
    Parquet            the row groups that contain the rows
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby, pairwise, product
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fsspec.utils import merge_offset_ranges

from bisieve.errors import IndexUnusableError
from bisieve.io.read import read_ranges
from bisieve.io.urls import codec_of, is_parquet, is_seekable
from bisieve.records.decode import record_converter, record_decoder
from bisieve.records.embedded_images import Locate, Save, located
from bisieve.records.model import Rollout, question_of, rollout_reason, step_counts, step_score
from bisieve.records.options import KnownShards, Layout, ReadOptions
from bisieve.shards.jsonl import open_text
from bisieve.shards.parquet import read_rows

_CHUNK, _STREAMED = 2**11, 2**15  # rollouts fetched at once, if all shards are seekable and if not

# The cost of a request, in bytes that could be read in the same time.  A smaller gap between two spans is
# read, a larger one is skipped, so unused bytes never cost more than the requests that they save.  s3fs
# takes 1 to 3 ms per request, many in parallel; at 64 to 100 MB/s that is 64 to 300 KiB.  The lower end is
# used because bandwidth is shared.
REQUEST_BYTES = 64 * 2**10
_MAX_READ = 16 * 2**20  # bytes of one request
_TOGETHER = 64 * 2**20  # bytes of lines, and of gaps between them, held in memory at once

Span = tuple[str, int, int]  # shard, offset, length (bytes); of a Parquet row: shard, row number, 1
Found = Iterator[tuple[Span, Any]]


def fetch_rollouts(rows: pa.Table, shards: KnownShards, save: Save | None = None) -> list[Rollout]:
    """Return the rollouts of ``rows``, in the same order.

    Image names are paths below the image root (`ReadOptions.image_path`).

    Args:
        rows: Rows of `schemas.INDEX`.
        shards: How the shards of the index are read.
        save: Writes images that are inside the records to files and returns their names.  Without it they
            keep the names that the index has, or stay in base64.

    Raises:
        IndexUnusableError: A span does not contain the record that was scored any more.
        StorageError: A shard cannot be read.
        CorpusError: A compressed or Parquet shard is damaged.
        ImageError: An image in base64 is invalid (only with ``save``).
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
    """Yield the rollouts of ``rows`` as `fetch_rollouts` does, in the chunks of `in_chunks`."""
    for chunk in in_chunks(rows):
        yield fetch_rollouts(chunk, shards, save)


def in_chunks(rows: pa.Table) -> Iterator[pa.Table]:
    """Yield ``rows`` in consecutive parts to be fetched at once, of 2048 rows.

    If a shard is not seekable they have 32768 rows, because each part reads such a shard again.
    """
    size = _STREAMED if unseekable_shards(rows) else _CHUNK
    return (rows.slice(start, size) for start in range(0, rows.num_rows, size))


def unseekable_shards(rows: pa.Table) -> list[str]:
    """Return the shards of ``rows`` in which single records cannot be read by byte range (`is_seekable`)."""
    shards = pc.unique(pc.struct_field(rows["spans"].combine_chunks().flatten(), "shard"))
    return [shard for shard in shards.to_pylist() if not is_seekable(shard)]


def spans_of(rows: pa.Table) -> list[list[Span]]:
    """Return the spans of each row of `schemas.INDEX`."""
    return [
        [(span["shard"], span["offset"], span["length"]) for span in row] for row in rows["spans"].to_pylist()
    ]


def changed_record(rollout_id: str, spans: Sequence[Span]) -> IndexUnusableError:
    """Return the error for a rollout whose spans do not contain it any more."""
    shard, offset, _ = spans[0]
    return IndexUnusableError(
        f"rollout {rollout_id} at {shard}@{offset}", "other content", "run bisieve score again"
    )


def _readers(reading: ReadOptions) -> dict[tuple[Layout, bool], Callable[[Any], Any]]:
    """Return the functions that make a typed record of a line or a row, by (layout, whether it is a row)."""
    layouts: tuple[Layout, ...] = ("rollouts", "steps")
    return {
        (layout, is_row): (record_converter if is_row else record_decoder)(layout, reading)
        for layout, is_row in product(layouts, (False, True))
    }


def _from_rollout(rollout_id: str, found: list[Any]) -> Rollout | None:
    """Return the rollout of its one record, or None if the record is not usable any more."""
    (record,) = found
    if rollout_reason(record) is not None:
        return None
    steps = record.steps_with_score
    return Rollout(
        rollout_id=rollout_id,
        image=record.image,
        question=question_of(record.question_orig, record.question),
        steps=tuple(step.step.strip() for step in steps),
        scores=tuple(float(step.score) for step in steps),
        **_counts(steps),
    )


def _from_steps(rollout_id: str, found: list[Any]) -> Rollout | None:
    """Return the rollout of its step records; None if the first has no image or one has another id."""
    head = found[0]
    scores = [step_score(record) for record in found]
    if head.image is None or any(str(record.rollout_id) != rollout_id for record in found):
        return None
    return Rollout(
        rollout_id=rollout_id,
        image=head.image,
        question=question_of(head.question_orig, head.question),
        steps=tuple(record.step.strip() for record in found),
        scores=tuple(float(score) for score in scores if score is not None),
        **_counts(found),
    )


def _counts(steps: Sequence[Any]) -> dict[str, tuple[int, ...] | None]:
    """Return K and N of all steps as arguments of `Rollout`; None unless every step has both."""
    counts = [known for step in steps if (known := step_counts(step)) is not None]
    if len(counts) < len(steps):
        return {"mc_correct": None, "mc_total": None}
    return {"mc_correct": tuple(k for k, _ in counts), "mc_total": tuple(n for _, n in counts)}


def read_spans(spans: Sequence[Span], shards: KnownShards, locate: Locate | None = None) -> dict[Span, Any]:
    """Return the record at each span: the bytes of a line, or a Parquet row as a dict with bisieve's names.

    Args:
        spans: The spans, sorted.
        shards: How the shards are read.
        locate: Replaces the images of Parquet rows, see `parquet.read_rows`.

    Returns:
        The records by span.  A Parquet row that its shard does not have any more is missing.

    Raises:
        StorageError: A shard cannot be read.
        CorpusError: A shard is damaged.
    """
    return dict(each_span(spans, shards, locate))


def each_span(spans: Sequence[Span], shards: KnownShards, locate: Locate | None = None) -> Found:
    """Yield (span, record) as `read_spans` returns them, with only a part of the records in memory."""
    for shard, group in groupby(spans, key=itemgetter(0)):
        wanted = list(group)
        if is_parquet(shard):
            yield from _read_rows(shard, wanted, shards, locate)
        elif codec_of(shard) is not None:
            yield from _read_streamed(shard, wanted)
        else:
            for some in _in_rounds(wanted):
                yield from _read_ranges(shard, some)


def _read_rows(shard: str, wanted: Sequence[Span], shards: KnownShards, locate: Locate | None) -> Found:
    numbers = [number for _, number, _ in wanted]
    rows = read_rows(shard, numbers, shards.layouts[shard], shards.reading, locate)
    return (((shard, number, 1), row) for number, row in rows)


def _in_rounds(wanted: Sequence[Span]) -> Iterator[Sequence[Span]]:
    """Yield the spans ``wanted`` of one shard in parts of about `_TOGETHER` bytes."""
    offset, length = np.array([span[1:] for span in wanted], np.int64).T
    gap = np.diff(offset, prepend=offset[:1]) - np.append([0], length[:-1])
    read = np.cumsum(length + np.clip(gap, 0, REQUEST_BYTES))
    begins = np.flatnonzero(np.diff(read // _TOGETHER, prepend=-1)).tolist()
    return (wanted[start:end] for start, end in pairwise([*begins, len(wanted)]))


def _read_ranges(shard: str, wanted: Sequence[Span]) -> Found:
    """Read the spans of a plain JSONL shard in as few requests as `REQUEST_BYTES` and `_MAX_READ` allow."""
    starts = [offset for _, offset, _ in wanted]
    ends = [offset + length for _, offset, length in wanted]
    _, begins, behind = merge_offset_ranges([shard] * len(wanted), starts, ends, REQUEST_BYTES, _MAX_READ)
    blocks = read_ranges(shard, begins, behind)
    block = 0
    for span, start, end in zip(wanted, starts, ends, strict=True):
        while end > behind[block]:
            block += 1
        base = begins[block]
        yield span, blocks[block][start - base : end - base]


def _read_streamed(shard: str, wanted: Sequence[Span]) -> Found:
    """Read the spans of a compressed shard in one pass over its decompressed text."""
    position = 0
    with open_text(shard) as file:
        for span in wanted:
            _, offset, length = span
            while position < offset and (skipped := file.read(min(offset - position, _MAX_READ))):
                position += len(skipped)
            line = file.read(length)
            position += len(line)
            yield span, line
