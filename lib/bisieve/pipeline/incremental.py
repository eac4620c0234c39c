"""Incremental scoring: take rows of unchanged shards from the current index version instead of scanning them.

known_layouts ──▶ older_rows (None: nothing to reuse) ──▶ kept_chunks   rows copied from the index
                                                     └──▶ steps_again   steps reread by their spans
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from bisieve import schemas
from bisieve.index.manifest import ROWS_VERSION, DataFile
from bisieve.index.reader import Index, indexed_layouts, open_part
from bisieve.index.rerank import read_scored
from bisieve.io.storage import FileInfo
from bisieve.io.urls import is_seekable
from bisieve.pipeline.engine import Engine, Parts, Scanned, Shared
from bisieve.records.options import Layout, Parameters, ReadOptions
from bisieve.scan.chunks import Chunk, make_chunk
from bisieve.scan.group_steps import parted_by_rollout
from bisieve.scan.reuse import KeptShards, NamedRollouts, parted_by_place, read_again, rounds

Named = Shared[NamedRollouts]
Kind = tuple[bool, DataFile]  # a file of the index; True: of usable rollouts, False: of rejected records


def known_layouts(index: Index, parameters: Parameters) -> dict[FileInfo, Layout]:
    """Return the layout of each shard of ``index`` whose rows can be reused with ``parameters``.

    Shards are as the index lists them (URL, size, etag); the caller compares them with the present shards.

    Returns:
        {} if `ROWS_VERSION` or a read option that affects rows has changed.  Of the read options the layout
        is compared shard by shard, and image prefixes do not affect rows.
    """
    if index.manifest.rows_version != ROWS_VERSION:
        return {}
    asked, was = parameters.reading, index.manifest.parameters.reading
    # The layout is compared shard by shard below; image prefixes change nothing in a scan.
    if replace(asked, layout=was.layout, image_prefixes=was.image_prefixes) != was:
        return {}
    layouts = indexed_layouts(index)
    return {shard: layout for shard, layout in layouts.items() if asked.layout in ("auto", layout)}


@dataclass(frozen=True)
class Older:
    """The index version before this run, and which of its shards are unchanged."""

    index: Index
    shards: KeptShards

    @property
    def files(self) -> list[Kind]:
        """Return its files of ranked rollouts (True), then those of rejected records (False)."""
        return [*((True, file) for file in self.index.files), *((False, file) for file in self.index.rejects)]


def older_rows(index: Index, now: Mapping[FileInfo, Layout], kept: Collection[FileInfo]) -> Older | None:
    """Return the reusable part of ``index``, or None if no shard is unchanged.

    Args:
        index: The current index version.
        now: All shards of this run, with their layouts.
        kept: Those of ``now`` that need no scan.
    """
    return Older(index, KeptShards.of(indexed_layouts(index), now, kept)) if kept else None


def kept_chunks(engine: Engine, older: Older, named: Named, parameters: Parameters) -> Parts[Chunk]:
    """Return chunks of the indexed rollouts and rejects that no new, changed or deleted shard affects.

    They are read from the index files, one chunk a file, and scored again with ``parameters``.

    Args:
        engine: Runs the tasks.
        older: The index version to reuse.
        named: The rollout ids in the steps scanned by this run; these rollouts are not kept.
        parameters: Alpha and threshold score the rows; strategy, scope and ties sort them.
    """
    keep = partial(_kept_chunk, engine.share(older), named, parameters)
    return engine.spread(list(enumerate(older.files))).map(keep)


def _kept_chunk(
    shared: Shared[Older], named: Named, parameters: Parameters, numbered: tuple[int, Kind]
) -> Chunk:
    older, (number, (usable, file)) = shared.value, numbered
    rows = read_scored(older.index, file, parameters) if usable else _read(older.index, file)
    rows = rows.filter(pa.array(~older.shards.touched(rows, named.value)))
    empty = (schemas.REJECTS if usable else schemas.USABLE).empty_table()
    # -1: no scanned chunk has a negative number, so the numbers of all chunks differ.
    return make_chunk((-1, number), *((rows, empty) if usable else (empty, rows)), parameters)


def steps_again(
    engine: Engine, older: Older, named: Named, parameters: Parameters, parts: int, scanned: Scanned
) -> Parts[tuple[int, bytes]]:
    """Reread the steps, in unchanged shards, of the rollouts that `kept_chunks` leaves out.

    Their spans are first shuffled by shard and byte range, so that neighbouring records are read together.

    Args:
        engine: Runs the tasks.
        older: The index version to reuse.
        named: The rollout ids in the steps scanned by this run.
        parameters: The read options decide how records are decoded.
        parts: Number of partitions in which steps are grouped.
        scanned: Counts the bytes read.

    Returns:
        Pairs (part, Arrow stream of `schemas.STEPS` rows), partitioned by rollout as scanned steps are.
    """
    readers = num_readers(engine, older)
    shared = engine.share(older)
    places = engine.spread(older.files).flat_map(partial(_places, shared, named, readers))
    read = partial(_read_places, shared, parameters.reading, parts, scanned)
    return places.by_number(readers, "scan").map_parts(read)


def _places(shared: Shared[Older], named: Named, readers: int, kind: Kind) -> Iterator[tuple[int, bytes]]:
    older, (usable, file) = shared.value, kind
    rows = _read(older.index, file, ["rollout_id", "spans", *([] if usable else ["shard"])])
    if usable:
        rows = rows.append_column("shard", pc.struct_field(pc.list_element(rows["spans"], 0), "shard"))
    return parted_by_place(older.shards.spans_left(rows, named.value), readers)


def _read_places(
    shared: Shared[Older],
    reading: ReadOptions,
    parts: int,
    scanned: Scanned,
    _: int,
    pieces: Iterable[tuple[int, bytes]],
) -> Iterator[tuple[int, bytes]]:
    steps = shared.value.shards.steps
    for spans in rounds(rows for _, rows in pieces):
        whole = {shard for shard, _, _ in spans if not is_seekable(shard)}
        scanned.count_bytes(sum(steps[shard] for shard in whole))
        scanned.count_bytes(sum(length for shard, _, length in spans if shard not in whole))
        yield from parted_by_rollout(read_again(spans, reading), parts)


def num_readers(engine: Engine, older: Older) -> int:
    """Return how many tasks `steps_again` reads with; 0 if there is no step to reread."""
    return min(len(older.shards.steps), 8 * engine.cores)


def _read(index: Index, file: DataFile, columns: list[str] | None = None) -> pa.Table:
    with open_part(index.url, file) as part:
        return part.read(columns, use_threads=False)
