"""Reuse an older index: find the rollouts that no changed shard affects, and reread only the others.

In the steps layout a rollout may have steps in several shards.  If a new, changed or deleted shard has, or
had, one of its steps, the rollout is *touched*: it is grouped again, from the steps scanned in this run and
from its records in unchanged shards, which are reread by their spans.

KeptShards.touched ──▶ rollouts to take from the index, and the touched ones
KeptShards.spans_left ──parted_by_place──▶ shuffle by place ──rounds──▶ read_again ──▶ `schemas.STEPS`
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
from bisieve.io.storage import FileInfo
from bisieve.io.urls import is_parquet, is_seekable
from bisieve.ranking.sort import from_bytes
from bisieve.records.decode import record_converter, record_decoder
from bisieve.records.options import KnownShards, Layout, ReadOptions
from bisieve.scan.group_steps import by_part
from bisieve.scan.steps import line_row, record_row
from bisieve.shards.fetch import Span, each_span
from bisieve.shards.listing import LARGEST_TASK

Layouts: TypeAlias = Mapping[FileInfo, Layout]
Mask: TypeAlias = npt.NDArray[np.bool_]
Hashes: TypeAlias = npt.NDArray[np.uint32]

_FEWEST_BITS, _MOST_BITS = 2**16, 2**28  # at most 32 MiB; with ten million ids 4 % false positives
_BITS_A_NAME = 32
_BIT = (1 << np.arange(8)).astype(np.uint8)

_BATCH_ROWS = 2**13
_ROUND = 2**17  # spans sorted at once; each takes some 100 bytes while it is read


def hashed(ids: pa.Array | pa.ChunkedArray) -> Hashes:
    """Return the distinct hashes of rollout ids, uint32, sorted; nulls are ignored."""
    names = pc.unique(ids.drop_null()).to_pylist()
    return np.unique(np.array([_hash(name) for name in names], np.uint32))


def _hash(name: str) -> int:
    return xxhash.xxh3_64_intdigest(name.encode()) % _MOST_BITS


@dataclass(frozen=True)
class NamedRollouts:
    """Set of the rollout ids in scanned records: a Bloom filter with one hash, of at most 32 MiB.

    A false positive costs time only: that rollout is grouped again, with the same result.
    """

    bits: npt.NDArray[np.uint8]  # packed; an id's bit is its hash modulo the number of bits

    @staticmethod
    def of(parts: Sequence[Hashes]) -> "NamedRollouts":
        """Build the filter of all hashes in ``parts``, each as `hashed` returns them."""
        names = sum(map(len, parts))
        number = min(_MOST_BITS, max(_FEWEST_BITS, 1 << (_BITS_A_NAME * names).bit_length()))
        bits = np.zeros(number // 8, np.uint8)
        for part in parts:
            places = part % number
            np.bitwise_or.at(bits, places // 8, _BIT[places % 8])
        return NamedRollouts(bits)

    def has(self, ids: pa.ChunkedArray) -> Mask:
        """Return a mask of the ids that are in the set, bool [ids]; some false positives.  No id is null."""
        places = np.array([_hash(name) for name in ids.to_pylist()], np.uint32) % (8 * len(self.bits))
        return (self.bits[places // 8] & _BIT[places % 8]).astype(np.bool_)


@dataclass(frozen=True)
class KeptShards:
    """The shards of an older index, divided into changed and unchanged ones."""

    dropped: Sequence[str]  # URLs of shards that are gone or changed
    # URL → bytes of the unchanged shards of the steps layout; {} if no shard of that layout has changed or is
    # new, since then no step needs to be reread.
    steps: Mapping[str, int]

    @staticmethod
    def of(was: Layouts, now: Layouts, kept: Collection[FileInfo]) -> "KeptShards":
        """Compare the shards of an older index with those of this run.

        Args:
            was: The shards of the older index, with their layouts.
            now: All shards of this run, with their layouts.
            kept: Those that need no scan.
        """
        others = {layout for of in (was, now) for shard, layout in of.items() if shard not in kept}
        return KeptShards(
            [shard.url for shard in was if shard not in kept],
            {shard.url: shard.size for shard in kept if "steps" in others and now[shard] == "steps"},
        )

    def touched(self, rows: pa.Table, named: NamedRollouts) -> Mask:
        """Return a mask of the rollouts or rejects that are touched, bool [rows]; see the module.

        Args:
            rows: With ``rollout_id``, ``shard`` (of the first span) and ``spans`` (null for a reject of one
                record, whose place is in ``shard``).
            named: The rollout ids in the steps scanned in this run.
        """
        touched = _among(rows["shard"], self.dropped)
        spans = rows["spans"].combine_chunks()
        owner = pc.list_parent_indices(spans).to_numpy()
        touched[owner[_among(_shard(spans), self.dropped)]] = True
        # Ids identify rollouts in the steps layout only; in the other a record is a rollout of its own.
        of_steps = _among(rows["shard"], list(self.steps)) & np.asarray(rows["rollout_id"].is_valid())
        touched[of_steps] |= named.has(rows["rollout_id"].filter(pa.array(of_steps)))
        return touched

    def spans_left(self, rows: pa.Table, named: NamedRollouts) -> pa.StructArray:
        """Return the spans of touched rollouts in unchanged shards; arguments are those of `touched`."""
        spans = rows["spans"].combine_chunks().filter(pa.array(self.touched(rows, named))).flatten()
        return spans.filter(pc.is_in(spans.field("shard"), pa.array(self.steps, pa.string())))


def _shard(spans: pa.ListArray) -> pa.Array:
    return pc.struct_field(spans.flatten(), "shard")


def _among(urls: pa.Array | pa.ChunkedArray, some: Sequence[str]) -> Mask:
    return np.array(pc.is_in(urls, pa.array(some, pa.string())))


def parted_by_place(spans: pa.StructArray, parts: int) -> Iterator[tuple[int, bytes]]:
    """Partition spans so that those in the same byte range of a shard are in the same part.

    A range is `LARGEST_TASK` bytes, or the whole shard if it is compressed or Parquet.

    Args:
        spans: Of `schemas.SPAN`.
        parts: Number of parts.

    Yields:
        Pairs (part, Arrow stream of its spans).
    """
    shard, offset, _ = spans.flatten()
    shards = shard.dictionary_encode()
    urls = shards.dictionary.to_pylist()
    number = shards.indices.to_numpy()
    first = np.array([xxhash.xxh3_64_intdigest(url.encode()) % parts for url in urls], np.int64)
    # A shard that is not seekable (compressed or Parquet) is read by one task.
    part_bytes = np.array([LARGEST_TASK if is_seekable(url) else 2**63 - 1 for url in urls], np.int64)
    part = (first[number] + offset.to_numpy() // part_bytes[number]) % parts
    return by_part(pa.Table.from_struct_array(spans), part, parts)


def rounds(pieces: Iterable[bytes]) -> Iterator[list[Span]]:
    """Yield the spans of pieces from `parted_by_place` in lists of about `_ROUND`, each list sorted."""
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
    """Yield the steps at ``spans``, which are sorted, as batches of `schemas.STEPS`.

    Of a plain shard only the spans are read (and small gaps between them); a compressed shard is streamed up
    to its last span; of a Parquet shard the row groups with a span are read.
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
