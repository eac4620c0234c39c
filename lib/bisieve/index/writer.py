"""Write the Parquet files of an index version: ranked rollouts, the list of sources and the list of files."""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bisieve import schemas
from bisieve.index.manifest import CutoffScore, DataFile
from bisieve.io.storage import write_bytes
from bisieve.io.urls import join
from bisieve.ranking.order import TieBlock, largest_tie_blocks, selection_limits, telling_tie_blocks
from bisieve.ranking.sort import codes_and_texts
from bisieve.scan.chunks import COUNTED, Totals

ROWS_PER_FILE = 2**17
ROWS_PER_GROUP = 2**14
_FEW_TEXTS = ("source", "shard", "layout", "reason")  # text columns with few distinct values

REPORTED = (0.05, 0.10, 0.25, 0.50)  # fractions whose cutoff scores every index has


def part_path(folder: str, number: int) -> str:
    """Return the path of file ``number`` of a folder, relative to the URL of the index."""
    return f"{folder}/part-{number:06d}.parquet"


def write_part(
    index_url: str, path: str, table: pa.Table, schema: pa.Schema, rows_per_group: int = ROWS_PER_GROUP
) -> DataFile:
    """Write the columns of ``schema`` as one Parquet file; a failed write leaves no file.

    Args:
        index_url: URL of the index.
        path: Path of the file, relative to it.
        table: Rows in order; columns that are not in ``schema`` are left out.
        schema: Columns and types of the file.
        rows_per_group: Rows of a row group.

    Raises:
        StorageError: The file cannot be written.
    """
    buffer = io.BytesIO()
    rows = table.select(schema.names).cast(schema).combine_chunks()
    pq.write_table(
        rows,
        buffer,
        compression="zstd",
        row_group_size=rows_per_group,
        use_dictionary=list(_repeating(schema)),
    )
    data = buffer.getvalue()
    write_bytes(join(index_url, path), data)
    return DataFile(path, table.num_rows, len(data), hashlib.sha256(data).hexdigest())


def _repeating(schema: pa.Schema) -> Iterator[str]:
    """Yield the Parquet columns to dictionary-encode: those whose values repeat.

    For any other column Parquet would start a dictionary and give it up.
    """
    for field in schema:
        if field.name in _FEW_TEXTS:
            yield field.name
        elif pa.types.is_list(field.type):
            item = f"{field.name}.list.element"
            inner = field.type.value_type
            yield from [f"{item}.{name}" for name in _FEW_TEXTS] if pa.types.is_struct(inner) else [item]


@dataclass(frozen=True)
class RankedFile:
    """A written file of ranked rows, with what the lists of the index need of it."""

    file: DataFile
    tie_blocks: list[TieBlock]  # see `order.telling_tie_blocks`
    cutoff_scores: pa.Table  # of `schemas.CUTOFF_SCORES`, of the selections that end in this file


def write_ranked_file(
    index: str, path: str, rows: pa.Table, rows_per_group: int, rollouts: Mapping[str, int], scope: str,
    dropped: Mapping[str, int] | None = None,
) -> RankedFile:  # fmt: skip
    """Write ranked rows as one file.

    Args:
        index: URL of the index.
        path: Path of the file, relative to it.
        rows: Of `schemas.INDEX` and with ``key``, ordered by (source, rank).
        rows_per_group: Rows of a row group.
        rollouts: Number of usable rollouts by source.
        scope: "source" or "global".
        dropped: By source, how many rollouts of the lowest ranks are never selected; none by default.

    Raises:
        StorageError: The file cannot be written.
    """
    file = write_part(index, path, rows, schemas.INDEX, rows_per_group)
    return RankedFile(file, telling_tie_blocks(rows), _cutoff_scores(rows, rollouts, scope, dropped))


def _cutoff_scores(
    rows: pa.Table, rollouts: Mapping[str, int], scope: str, dropped: Mapping[str, int] | None
) -> pa.Table:
    codes, names = codes_and_texts(rows["source"])
    if scope == "source":  # only sources in this file: there may be very many others
        rollouts = {name: rollouts[name] for name in names if name in rollouts}
    found = []
    for fraction in REPORTED:
        limits = selection_limits(rollouts, scope, fraction, dropped)
        limit = np.array([limits.get(name, 0) for name in names], np.int64)[codes]
        ends = np.flatnonzero(rows["rank"].to_numpy() == limit)
        of = rows["source"].take(pa.array(ends)).cast(pa.string())
        columns = {
            "source": of if scope == "source" else pa.nulls(len(ends), pa.string()),
            "fraction": np.full(len(ends), fraction),
            "rollouts": limit[ends],
            "bis": rows["bis"].to_numpy()[ends],
        }
        found.append(pa.table(columns, schema=schemas.CUTOFF_SCORES))
    return pa.concat_tables(found)


def cutoff_scores_by_source(files: Iterable[RankedFile]) -> pa.Table:
    """Return the cutoff scores of each source (`schemas.CUTOFF_SCORES`); no rows with scope "global".

    They are ordered by source, then by fraction.
    """
    return _together(files).drop_null().sort_by([("source", "ascending"), ("fraction", "ascending")])


def cutoff_scores_over_all(files: Iterable[RankedFile]) -> list[CutoffScore]:
    """Return the cutoff scores of selections over all sources, by fraction; [] with scope "source"."""
    scores = _together(files)
    over_all = scores.filter(pc.is_null(scores["source"])).drop_columns("source").sort_by("fraction")
    return [CutoffScore(**score) for score in over_all.to_pylist()]


def _together(files: Iterable[RankedFile]) -> pa.Table:
    return pa.concat_tables([schemas.CUTOFF_SCORES.empty_table(), *(file.cutoff_scores for file in files)])


def write_source_list(index_url: str, folder: str, totals: Totals, files: Sequence[RankedFile]) -> DataFile:
    """Write the table of sources (`source_table`) into a version's ``folder``.

    Raises:
        StorageError: The file cannot be written.
    """
    table = source_table(totals, files)
    return write_part(index_url, f"{folder}/sources.parquet", table, schemas.SOURCES)


def source_table(totals: Totals, files: Sequence[RankedFile]) -> pa.Table:
    """Return the table of sources, `schemas.SOURCES`, ordered by name.

    Sources that have only rejects are included.

    Args:
        totals: Counts of the whole index.
        files: All ranked files, in order.
    """
    names = sorted({*totals.sources, *(source for source, _ in totals.rejected)})
    nothing = [0] * len(COUNTED)
    counts = np.array([totals.sources.get(name, nothing) for name in names], np.int64)
    tie_blocks = largest_tie_blocks([file.tie_blocks for file in files])
    rejected = sorted(totals.rejected.items())
    reject_counts = {
        "source": [source for (source, _), _ in rejected],
        "reason": [reason for (_, reason), _ in rejected],
        "records": [records for _, records in rejected],
    }
    rejects = pa.table(reject_counts, schema=schemas.REJECT_COUNTS)
    columns = {
        "source": names,
        **dict(zip(COUNTED, counts.reshape(-1, len(COUNTED)).T, strict=True)),
        "tie_block": [tie_blocks.get(name, 0) for name in names],
        "rejected": _by_source(names, rejects),
        "cutoff_scores": _by_source(names, cutoff_scores_by_source(files)),
    }
    return pa.table(columns, schema=schemas.SOURCES)


def rejected_by_source(sources: pa.Table) -> dict[tuple[str, str], int]:
    """Return the number of rejects by (source, reason) from a table of `schemas.SOURCES`."""
    lists = sources["rejected"].combine_chunks()
    owners = sources["source"].take(pc.list_parent_indices(lists)).to_pylist()
    reasons, records = (lists.flatten().field(name).to_pylist() for name in ("reason", "records"))
    return dict(zip(zip(owners, reasons, strict=True), records, strict=True))


def _by_source(names: Sequence[str], rows: pa.Table) -> pa.ListArray:
    """Return a list column: for each of the sources ``names`` its ``rows``; both are ordered by source."""
    place = pc.index_in(rows["source"], pa.array(names, pa.string())).to_numpy()
    ends = np.cumsum(np.bincount(place, minlength=len(names)))
    members = rows.drop_columns("source").combine_chunks().to_struct_array().combine_chunks()
    return pa.ListArray.from_arrays(pa.array([0, *ends], pa.int32()), members)


def write_file_list(
    index_url: str, folder: str, rollouts: Sequence[DataFile], rejects: Sequence[DataFile]
) -> DataFile:
    """Write the list of a version's data files (`schemas.FILES`) into ``folder``.

    Args:
        index_url: URL of the index.
        folder: The version's folder, relative to it.
        rollouts: Files of ranked rows, in order.
        rejects: Files of rejected records, in order.

    Raises:
        StorageError: The file cannot be written.
    """
    files = [*rollouts, *rejects]
    kinds = ["rollouts"] * len(rollouts) + ["rejects"] * len(rejects)
    columns = {name: [getattr(file, name) for file in files] for name in schemas.FILES.names[1:]}
    table = pa.table({"kind": kinds, **columns}, schema=schemas.FILES)
    return write_part(index_url, f"{folder}/files.parquet", table, schemas.FILES)
