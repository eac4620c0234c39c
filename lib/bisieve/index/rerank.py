"""Ranks the rollouts of an index anew, with no look at its shards: scan once, rank many.

With equal parameters the result equals, byte for byte, what scoring the same shards gives.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bisieve import schemas
from bisieve.errors import UsageError
from bisieve.events import EventSink, null_sink
from bisieve.index.manifest import DataFile, Manifest, fingerprint, publish, version_folder
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
from bisieve.io.storage import canonical, join, write_bytes
from bisieve.ranking.strategies import SHUFFLED
from bisieve.records.options import Parameters
from bisieve.scan.chunks import Totals, count
from bisieve.schemas import MANIFEST
from bisieve.scoring import score_rollouts

Rank = Callable[[Index, Parameters, str, str], tuple[list[RankedFile], Totals]]


def with_overrides(was: Parameters, given: dict[str, Any]) -> Parameters:
    """``was`` with what is ``given``; `UsageError` where the two do not go together.

    A strategy in random order has no use for the rule for ties that another one had.
    """
    if given.get("strategy") in SHUFFLED:
        given = {"ties": "file", **given}
    asked = replace(was, **given)
    if asked.strategy in SHUFFLED and asked.ties != "file":
        raise UsageError(
            f"no --ties for an index of strategy {asked.strategy}", asked.ties, "its ties are in random order"
        )
    return asked


def publish_ranked(
    index: Index, parameters: Parameters, output: str, rank: Rank, emit: EventSink = null_sink
) -> tuple[Index, bool]:
    """Ranks ``index`` into the index at ``output``; returns that one and whether there was work to do.

    ``rank(index, parameters, output, folder)`` orders and writes the rollouts.
    """
    url = canonical(output)
    pointer = read_pointer(join(url, MANIFEST))
    version = fingerprint(parameters, indexed_shards(index), index.manifest.rows_version)
    if pointer.data is not None:
        current = Index(url, Manifest.from_json(pointer.data, pointer.url))
        if current.fingerprint == version and not missing_files(current):
            emit("unchanged", index=url, fingerprint=version)
            return current, False
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
    """The rollouts of one file of ``index``, of `schemas.USABLE`, scored anew by ``parameters``."""
    with open_part(index.url, file) as part:
        rows = part.read(use_threads=False).drop_columns(["rank"]).combine_chunks()
    scores = rows["scores"].chunk(0)
    offsets = scores.offsets.to_numpy().astype(np.int64)
    steps = scores.flatten().to_numpy()
    scored = score_rollouts(steps, offsets - offsets[0], parameters.alpha, parameters.threshold)
    for name, values in scored._asdict().items():
        rows = rows.set_column(rows.column_names.index(name), name, pa.array(values))
    first = pc.list_element(rows["spans"], 0).combine_chunks()
    for name in ("shard", "offset"):
        rows = rows.append_column(name, pc.struct_field(first, name))
    return rows.select(schemas.USABLE.names).cast(schemas.USABLE)


def count_usable(rows: pa.Table) -> Totals:
    """The totals of usable rollouts alone."""
    return count(rows, schemas.REJECTS.empty_table())
