"""What lies at spans: lines of text shards as bytes, rows of Parquet shards as dicts."""

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any

import numpy as np
from fsspec.utils import merge_offset_ranges

from bisieve.embedded import Locate
from bisieve.lines import codec_of, open_text
from bisieve.parquet import read_rows
from bisieve.reading import KnownShards
from bisieve.shards import is_parquet
from bisieve.whole import read_ranges

# What a request costs, in bytes that could be read instead: a gap below it is read, one above it is jumped,
# so what is read for nothing never costs more than the requests that it spares.  s3fs takes 1 to 3 ms a
# request, many at once; at 64 to 100 MB/s 64 to 300 KiB come in that.  The lower end: bandwidth is shared.
REQUEST_BYTES = 64 * 2**10
_MAX_READ = 16 * 2**20
_TOGETHER = 64 * 2**20  # bytes of lines, and of gaps between them, that are held at once

Span = tuple[str, int, int]  # shard, offset, length; of a row: shard, number, 1
Found = Iterator[tuple[Span, Any]]


def read_spans(spans: Sequence[Span], shards: KnownShards, locate: Locate | None = None) -> dict[Span, Any]:
    """The line or the row, with the names that fields have here, of every span; ``spans`` are ordered.

    A row that its shard does not have any more is left out.  `StorageError` when a shard cannot be read,
    `CorpusError` when one is damaged.  ``locate`` is that of `parquet.read_rows`, for the images of rows.
    """
    return dict(each_span(spans, shards, locate))


def each_span(spans: Sequence[Span], shards: KnownShards, locate: Locate | None = None) -> Found:
    """As `read_spans`, one after the other: memory holds some of what lies there."""
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
    """``wanted``, of one shard, in parts of about `_TOGETHER`."""
    offset, length = np.array([span[1:] for span in wanted], np.int64).T
    gap = np.diff(offset, prepend=offset[:1]) - np.append([0], length[:-1])
    read = np.cumsum(length + np.clip(gap, 0, REQUEST_BYTES))
    begins = np.flatnonzero(np.diff(read // _TOGETHER, prepend=-1)).tolist()
    return (wanted[start:end] for start, end in pairwise([*begins, len(wanted)]))


def _read_ranges(shard: str, wanted: Sequence[Span]) -> Found:
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
    position = 0
    with open_text(shard) as file:
        for span in wanted:
            _, offset, length = span
            while position < offset and (skipped := file.read(min(offset - position, _MAX_READ))):
                position += len(skipped)
            line = file.read(length)
            position += len(line)
            yield span, line
