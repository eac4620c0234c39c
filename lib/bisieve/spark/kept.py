"""What an older version of an index knows of shards that have not changed since: they need no scan."""

from collections.abc import Collection, Mapping
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
from pyspark import RDD, SparkContext

from bisieve import schema
from bisieve.index import Index, indexed_layouts, indexed_shards
from bisieve.index_files import open_part
from bisieve.manifest import DataFile, Parameters
from bisieve.reading import Layout
from bisieve.rerank import read_scored
from bisieve.scan.chunks import Chunk, make_chunk
from bisieve.storage import FileInfo


def known_layouts(index: Index, parameters: Parameters) -> dict[FileInfo, Layout]:
    """The layout of every shard that ``index`` has read as it would be read now; none where that changed."""
    asked, was = parameters.reading, index.manifest.parameters.reading
    # Of these two, the first is asked of each shard below, and the second changes nothing in a scan.
    if replace(asked, layout=was.layout, image_prefixes=was.image_prefixes) != was:
        return {}
    known = indexed_layouts(index)
    return {shard: layout for shard, layout in known.items() if asked.layout in ("auto", layout)}


def unchanged_shards(now: Mapping[FileInfo, Layout], known: Mapping[FileInfo, Layout]) -> list[FileInfo]:
    """Those of the shards ``now`` whose rollouts an index of ``known`` has as a scan would find them.

    The steps of a rollout may lie in several shards: if one of the layout steps is new, changed or gone, none
    of them is taken over.
    """
    steps_now, steps_then = ({shard for shard, its in of.items() if its == "steps"} for of in (now, known))
    kept = [shard for shard, layout in now.items() if known.get(shard) == layout]
    return kept if steps_now == steps_then else [shard for shard in kept if now[shard] == "rollouts"]


def kept_chunks(
    context: SparkContext, index: Index, kept: Collection[FileInfo], parameters: Parameters
) -> "RDD[Chunk]":
    """The rollouts and rejects of the shards ``kept``, from the index alone."""
    urls = {shard.url for shard in kept}
    dropped = pa.array([shard.url for shard in indexed_shards(index) if shard.url not in urls], pa.string())
    files = [(True, file) for file in index.files] + [(False, file) for file in index.rejects]

    def read(numbered: tuple[int, tuple[bool, DataFile]]) -> Chunk:
        number, (usable, file) = numbered
        rows = read_scored(index, file, parameters) if usable else _read_rejects(index, file)
        rows = rows.filter(pc.invert(pc.is_in(rows["shard"], dropped)))
        empty = (schema.REJECTS if usable else schema.USABLE).empty_table()
        # Behind the numbers of scanned chunks, so that all are told apart.
        return make_chunk((-1, number), *((rows, empty) if usable else (empty, rows)), parameters)

    return context.parallelize(list(enumerate(files)), len(files)).map(read)


def _read_rejects(index: Index, file: DataFile) -> pa.Table:
    with open_part(index.url, file) as part:
        return part.read()
