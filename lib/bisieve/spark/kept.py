"""What an older version of an index knows of shards that have not changed since: they need no scan."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark import RDD, SparkContext

from bisieve import schema
from bisieve.index import Index, indexed_shards
from bisieve.manifest import DataFile, Parameters
from bisieve.reading import open_input
from bisieve.rerank import read_scored
from bisieve.scan.chunks import Chunk, make_chunk
from bisieve.storage import FileInfo, join


def unchanged_shards(index: Index, shards: Sequence[FileInfo], parameters: Parameters) -> list[FileInfo]:
    """Those of ``shards`` whose rollouts stand in ``index`` as a scan would find them now.

    None where records are read in another way now, and none of the steps layout: a rollout whose steps lie
    in several shards is in the index only as a whole.
    """
    asked, was = parameters, index.manifest.parameters
    if (asked.layout, asked.source_field) != (was.layout, was.source_field) or asked.layout == "steps":
        return []
    known = set(indexed_shards(index))
    return [shard for shard in shards if shard in known]


def kept_chunks(
    context: SparkContext, index: Index, kept: Sequence[FileInfo], parameters: Parameters
) -> "RDD[Chunk]":
    """The rollouts and rejects of the shards ``kept``, from the index alone."""
    urls = {shard.url for shard in kept}
    dropped = pa.array([shard.url for shard in indexed_shards(index) if shard.url not in urls], pa.string())
    manifest = index.manifest
    files = [(True, file) for file in manifest.files] + [(False, file) for file in manifest.rejects]

    def read(numbered: tuple[int, tuple[bool, DataFile]]) -> Chunk:
        number, (usable, file) = numbered
        rows = read_scored(index, file, parameters) if usable else _read_rejects(index, file)
        rows = rows.filter(pc.invert(pc.is_in(rows["shard"], dropped)))
        empty = (schema.REJECTS if usable else schema.USABLE).empty_table()
        # Behind the numbers of scanned chunks, so that all are told apart.
        return make_chunk((-1, number), *((rows, empty) if usable else (empty, rows)), parameters)

    return context.parallelize(list(enumerate(files)), len(files)).map(read)


def _read_rejects(index: Index, file: DataFile) -> pa.Table:
    with open_input(join(index.url, file.path)) as handle:
        return pq.read_table(handle)
