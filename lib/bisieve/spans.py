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
from bisieve.storage import open_filesystem, storage_errors

# Below this gap one longer read is cheaper than two requests.
_MAX_GAP = 64 * 2**10
_MAX_READ = 16 * 2**20

Span = tuple[str, int, int]  # shard, offset, length; of a row: shard, number, 1
Found = dict[Span, Any]


def read_spans(spans: Sequence[Span], shards: KnownShards) -> Found:
    """The line or the row, with the names that fields have here, of every span; ``spans`` are ordered.

    A row that its shard does not have any more is left out.  `StorageError` when a shard cannot be read.
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
    fs, path = open_filesystem(shard)
    starts = [offset for _, offset, _ in wanted]
    ends = [offset + length for _, offset, length in wanted]
    merged = merge_offset_ranges([path] * len(wanted), starts, ends, _MAX_GAP, _MAX_READ)
    with storage_errors(shard):
        blocks = fs.cat_ranges(*merged, on_error="raise")
    block = 0
    for span, start, end in zip(wanted, starts, ends, strict=True):
        while end > merged[2][block]:
            block += 1
        base = merged[1][block]
        lines[span] = bytes(blocks[block][start - base : end - base])
    return lines


def _read_streamed(shard: str, wanted: Sequence[Span]) -> Found:
    lines: Found = {}
    position = 0
    with storage_errors(shard), open_text(shard) as file:
        for span in wanted:
            _, offset, length = span
            while position < offset and (skipped := file.read(min(offset - position, _MAX_READ))):
                position += len(skipped)
            lines[span] = file.read(length)
            position += len(lines[span])
    return lines
