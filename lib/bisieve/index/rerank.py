"""Rank an index again with other parameters, without reading its shards: scan once, rank many times.

The files are the same, byte for byte, as those of scoring the same shards with these parameters.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bisieve import schemas
from bisieve.events import EventSink, null_sink
from bisieve.index.manifest import DataFile, Manifest, fingerprint, publish, say_occupied, version_folder
from bisieve.index.reader import Index, indexed_shards, missing_files, open_part, read_part
from bisieve.index.writer import (
    RankedFile,
    cutoff_scores_over_all,
    part_path,
    rejected_by_source,
    write_file_list,
    write_source_list,
)
from bisieve.io.conditional import read_pointer
from bisieve.io.storage import write_bytes
from bisieve.io.urls import canonical, join
from bisieve.ranking.grouped import with_column
from bisieve.records.options import Parameters
from bisieve.scan.chunks import Totals, count
from bisieve.schemas import MANIFEST
from bisieve.scoring import score_rollouts

Rank = Callable[[Index, Parameters, str, str], tuple[list[RankedFile], Totals]]


def publish_ranked(
    index: Index, parameters: Parameters, output: str, rank: Rank, emit: EventSink = null_sink
) -> tuple[Index, bool]:
    """Rank ``index`` with ``parameters`` and publish the result as the index at ``output``.

    Args:
        index: The version to rank.
        parameters: New parameters.
        output: URL of the index to write; may be that of ``index``.
        rank: Called as ``rank(index, parameters, output, folder)`` if there is work to do; it sorts and
            writes the rollouts, and returns the files and the counts of usable rollouts.
        emit: Gets the events of the run.

    Returns:
        The published version, and False if it was up to date already.

    Raises:
        IndexUnusableError: A file of ``index`` is missing or damaged.
        StorageError: A store cannot be read or written, or another run published at ``output`` meanwhile.
    """
    url = canonical(output)
    pointer = read_pointer(join(url, MANIFEST))
    version = fingerprint(parameters, indexed_shards(index), index.manifest.rows_version)
    if pointer.data is not None:
        current = Index(url, Manifest.from_json(pointer.data, pointer.url))
        if current.fingerprint == version and not missing_files(current):
            emit("unchanged", index=url, fingerprint=version)
            return current, False
    else:
        say_occupied(url, emit)
    manifest = _ranked(index, parameters, url, version, rank)
    emit("ranked", rollouts=manifest.rollouts, strategy=parameters.strategy)
    publish(pointer, url, manifest, emit)
    return Index(url, manifest), True


def _ranked(index: Index, parameters: Parameters, url: str, version: str, rank: Rank) -> Manifest:
    old = index.manifest
    folder = version_folder(version)
    files, totals = rank(index, parameters, url, f"{folder}/rollouts")
    totals.rejected = rejected_by_source(index.sources)
    shards = _copy(old.shards, index, url, f"{folder}/shards.parquet")
    rejects = [
        _copy(file, index, url, part_path(f"{folder}/rejects", number))
        for number, file in enumerate(index.rejects)
    ]
    rollouts = [file.file for file in files]
    return replace(
        old,
        fingerprint=version,
        parameters=parameters,
        file_bytes=sum(file.bytes for file in (*rollouts, *rejects)),
        shards=shards,
        sources=write_source_list(url, folder, totals, files),
        files=write_file_list(url, folder, rollouts, rejects),
        cutoff_scores=cutoff_scores_over_all(files),
    )


def _copy(file: DataFile, index: Index, url: str, path: str) -> DataFile:
    write_bytes(join(url, path), read_part(index.url, file))
    return replace(file, path=path)


def read_scored(index: Index, file: DataFile, parameters: Parameters) -> pa.Table:
    """Read a file of ranked rollouts and score them with ``parameters``; return `schemas.USABLE` rows."""
    return rescored(read_usable(index, file), parameters)


def read_usable(index: Index, file: DataFile) -> pa.Table:
    """Read a file of ranked rollouts; return `schemas.USABLE` rows with the scores of the index."""
    with open_part(index.url, file) as part:
        rows = part.read(use_threads=False).drop_columns(["rank"]).combine_chunks()
    first = pc.list_element(rows["spans"], 0).combine_chunks()
    for name in ("shard", "offset"):
        rows = rows.append_column(name, pc.struct_field(first, name))
    return rows.select(schemas.USABLE.names).cast(schemas.USABLE)


def rescored(rows: pa.Table, parameters: Parameters) -> pa.Table:
    """Return `schemas.USABLE` rows with the score of ``parameters`` and its parts."""
    rows = rows.combine_chunks()
    scores = rows["scores"].combine_chunks()
    offsets = scores.offsets.to_numpy().astype(np.int64)
    steps = scores.flatten().to_numpy()
    scored = score_rollouts(steps, offsets - offsets[0], parameters.alpha, parameters.threshold)
    for name, values in scored._asdict().items():
        rows = with_column(rows, name, values)
    return rows


def count_usable(rows: pa.Table) -> Totals:
    """Return the totals of usable rollouts (`schemas.USABLE`), with no rejects."""
    return count(rows, schemas.REJECTS.empty_table())
