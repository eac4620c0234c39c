"""Reuse an older index: find the rollouts that no changed shard touches, reread only the others.

The steps of a rollout may lie in several shards, so one that is touched is assembled anew: of what is
scanned, and of its records in the shards that are as they were, which are read again where its spans say.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from bisieve import schemas
from bisieve.io.file_names import is_parquet, is_seekable
from bisieve.io.storage import FileInfo
from bisieve.ranking.sort import from_bytes
from bisieve.records.decode import record_converter, record_decoder
from bisieve.records.options import KnownShards, Layout, ReadOptions
from bisieve.scan.partition import by_part
from bisieve.scan.steps import line_row, record_row
from bisieve.shards.fetch import Span, each_span
from bisieve.shards.listing import LARGEST_TASK

Layouts: TypeAlias = Mapping[FileInfo, Layout]
Mask: TypeAlias = npt.NDArray[np.bool_]
Hashes: TypeAlias = npt.NDArray[np.uint32]

_FEWEST_BITS, _MOST_BITS = 2**16, 2**28  # 32 MiB: where ten million are named, 4 % of the others seem so
_BITS_A_NAME = 32
_BIT = (1 << np.arange(8)).astype(np.uint8)

_BATCH_ROWS = 2**13
_ROUND = 2**17  # spans: some 100 bytes each while they are read


def hashed(ids: pa.Array | pa.ChunkedArray) -> Hashes:
    """The hashes of rollout ids, each once; nulls name no rollout."""
    names = pc.unique(ids.drop_null()).to_pylist()
    return np.unique(np.array([_hash(name) for name in names], np.uint32))


def _hash(name: str) -> int:
    return xxhash.xxh3_64_intdigest(name.encode()) % _MOST_BITS


@dataclass(frozen=True)
class NamedRollouts:
    """The rollouts that some records name, in memory that does not grow with their number.

    It takes a few others for named, too: they are assembled anew for nothing, and come out as they were.
    """

    bits: npt.NDArray[np.uint8]  # one a remainder of a hash, eight an entry

    @staticmethod
    def of(parts: Sequence[Hashes]) -> "NamedRollouts":
        """Those of all ``parts``."""
        names = sum(map(len, parts))
        number = min(_MOST_BITS, max(_FEWEST_BITS, 1 << (_BITS_A_NAME * names).bit_length()))
        bits = np.zeros(number // 8, np.uint8)
        for part in parts:
            places = part % number
            np.bitwise_or.at(bits, places // 8, _BIT[places % 8])
        return NamedRollouts(bits)

    def has(self, ids: pa.ChunkedArray) -> Mask:
        """Which of the ids, none of them null, are named."""
        places = np.array([_hash(name) for name in ids.to_pylist()], np.uint32) % (8 * len(self.bits))
        return (self.bits[places // 8] & _BIT[places % 8]).astype(np.bool_)


@dataclass(frozen=True)
class KeptShards:
    """What has become of the shards that an older index was made of."""

    dropped: Sequence[str]  # URLs of those that are gone or not as they were
    # URL → bytes of those of layout steps that are as they were; none where all of that layout are.
    steps: Mapping[str, int]

    @staticmethod
    def of(was: Layouts, now: Layouts, kept: Collection[FileInfo]) -> "KeptShards":
        """Of the shards as an index has them, as they are now, and those that are the same in both."""
        others = {layout for of in (was, now) for shard, layout in of.items() if shard not in kept}
        return KeptShards(
            [shard.url for shard in was if shard not in kept],
            {shard.url: shard.size for shard in kept if "steps" in others and now[shard] == "steps"},
        )

    def touched(self, rows: pa.Table, named: NamedRollouts) -> Mask:
        """Which rollouts of the older index are touched; ``named`` are those that scanned steps name.

        ``rows``: ``rollout_id``, ``shard``, the first span's, and ``spans``, null where that one is all.
        """
        touched = _among(rows["shard"], self.dropped)
        spans = rows["spans"].combine_chunks()
        owner = pc.list_parent_indices(spans).to_numpy()
        touched[owner[_among(_shard(spans), self.dropped)]] = True
        # An id tells rollouts apart in the layout steps alone.
        of_steps = _among(rows["shard"], list(self.steps)) & np.asarray(rows["rollout_id"].is_valid())
        touched[of_steps] |= named.has(rows["rollout_id"].filter(pa.array(of_steps)))
        return touched

    def spans_left(self, rows: pa.Table, named: NamedRollouts) -> pa.StructArray:
        """Where the records of the rollouts that are `reuse` lie, as far as those are as they were."""
        spans = rows["spans"].combine_chunks().filter(pa.array(self.touched(rows, named))).flatten()
        return spans.filter(pc.is_in(spans.field("shard"), pa.array(self.steps, pa.string())))


def _shard(spans: pa.ListArray) -> pa.Array:
    return pc.struct_field(spans.flatten(), "shard")


def _among(urls: pa.Array | pa.ChunkedArray, some: Sequence[str]) -> Mask:
    return np.array(pc.is_in(urls, pa.array(some, pa.string())))


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


def read_again(spans: Sequence[Span], reading: ReadOptions) -> Iterator[pa.RecordBatch]:
    """The steps whose records lie at ``spans``, which are ordered, as batches of `schemas.STEPS`.

    Only they are read of a plain shard; a compressed one is streamed up to the last of them, of a Parquet
    one the row groups are read that hold one.
    """
    rows = _rows(spans, reading)
    while batch := list(islice(rows, _BATCH_ROWS)):
        yield pa.RecordBatch.from_pylist(batch, schema=schemas.STEPS)


def _rows(spans: Sequence[Span], reading: ReadOptions) -> Iterator[dict[str, Any]]:
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
