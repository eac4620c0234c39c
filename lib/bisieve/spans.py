"""What lies at spans: lines of text shards as bytes, rows of Parquet shards as dicts."""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from fsspec.utils import merge_offset_ranges

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

Span = tuple[str, int, int]  # shard, offset, length; of a row: shard, number, 1
Found = dict[Span, Any]


def read_spans(spans: Sequence[Span], shards: KnownShards) -> Found:
    """The line or the row, with the names that fields have here, of every span; ``spans`` are ordered.

    A row that its shard does not have any more is left out.  `StorageError` when a shard cannot be read,
    `CorpusError` when one is damaged.
    """
    found: Found = {}
    for shard, group in groupby(spans, key=itemgetter(0)):
        wanted = list(group)
        if is_parquet(shard):
            found |= _read_rows(shard, wanted, shards)
        elif codec_of(shard) is not None:
            found |= _read_streamed(shard, wanted)
        else:
            found |= _read_ranges(shard, wanted)
    return found


def _read_rows(shard: str, wanted: Sequence[Span], shards: KnownShards) -> Found:
    numbers = [number for _, number, _ in wanted]
    rows = read_rows(shard, numbers, shards.layouts[shard], shards.reading)
    return {(shard, number, 1): row for number, row in rows}


def _read_ranges(shard: str, wanted: Sequence[Span]) -> Found:
    lines: Found = {}
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


def _read_streamed(shard: str, wanted: Sequence[Span]) -> Found:
    lines: Found = {}
    position = 0
    with open_text(shard) as file:
        for span in wanted:
            _, offset, length = span
            while position < offset and (skipped := file.read(min(offset - position, _MAX_READ))):
                position += len(skipped)
            lines[span] = file.read(length)
            position += len(lines[span])
    return lines
