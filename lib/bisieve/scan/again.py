"""Reads steps again whose places an older index knows: spans in, what a scan finds there out."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from bisieve import schema
from bisieve.decoding import record_converter, record_decoder
from bisieve.reading import KnownShards, Reading
from bisieve.scan.parting import by_part
from bisieve.scan.steps import line_row, record_row
from bisieve.shards import LARGEST_TASK, is_parquet, is_seekable
from bisieve.sort.runs import from_bytes
from bisieve.spans import Span, each_span

_BATCH_ROWS = 2**13
_ROUND = 2**17  # spans: some 100 bytes each while they are read


def parted_by_place(spans: pa.StructArray, parts: int) -> Iterator[tuple[int, bytes]]:
    """Spans, those that are best read together in the same one of ``parts``: of some range of a shard."""
    shard, offset, _ = spans.flatten()
    shards = shard.dictionary_encode()
    urls = shards.dictionary.to_pylist()
    number = shards.indices.to_numpy()
    first = np.array([xxhash.xxh3_64_intdigest(url.encode()) % parts for url in urls], np.int64)
    # What cannot be read from any place on is not read in parts.
    part_bytes = np.array([LARGEST_TASK if is_seekable(url) else 2**63 - 1 for url in urls], np.int64)
    part = (first[number] + offset.to_numpy() // part_bytes[number]) % parts
    return by_part(pa.Table.from_struct_array(spans), part, parts)


def rounds(pieces: Iterable[bytes]) -> Iterator[list[Span]]:
    """The spans of pieces that `parted_by_place` made, in order, some `_ROUND` at a time."""
    held: list[Span] = []
    batches = (batch for piece in pieces for batch in from_bytes(piece).to_batches(_ROUND))
    for batch in batches:
        held += zip(*(column.to_pylist() for column in batch.columns), strict=True)
        if len(held) >= _ROUND:
            yield sorted(held)
            held = []
    if held:
        yield sorted(held)


def read_again(spans: Sequence[Span], reading: Reading) -> Iterator[pa.RecordBatch]:
    """The steps whose records lie at ``spans``, which are ordered, as batches of `schema.STEPS`.

    Only they are read of a plain shard; a compressed one is streamed up to the last of them, of a Parquet
    one the row groups are read that hold one.
    """
    rows = _rows(spans, reading)
    while batch := list(islice(rows, _BATCH_ROWS)):
        yield pa.RecordBatch.from_pylist(batch, schema=schema.STEPS)


def _rows(spans: Sequence[Span], reading: Reading) -> Iterator[dict[str, Any]]:
    convert = record_converter("steps", reading)
    decoder = cache(partial(record_decoder, "steps", reading))
    shards = KnownShards(reading, dict.fromkeys((shard for shard, _, _ in spans), "steps"))
    for (shard, offset, length), found in each_span(spans, shards):
        source, partition = reading.source_of(shard), reading.partition_of(shard)
        row = (
            record_row(found, convert, reading, source)
            if is_parquet(shard)
            else line_row(found, decoder(partition), reading, source, partition)
        )
        yield {**row, "shard": shard, "offset": offset, "length": length}
