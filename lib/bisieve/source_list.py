"""What each source holds: a table with a row a source, however many there are."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bisieve import schema
from bisieve.manifest import DataFile
from bisieve.parts import write_part
from bisieve.ranked import RankedFile, cutoff_scores_by_source
from bisieve.ranking import largest_tie_blocks
from bisieve.totals import COUNTED, Totals


def write_source_list(index_url: str, folder: str, totals: Totals, files: Sequence[RankedFile]) -> DataFile:
    """Writes what each source of a version holds, of `schema.SOURCES`; `StorageError` where it cannot."""
    table = source_table(totals, files)
    return write_part(index_url, f"{folder}/sources.parquet", table, schema.SOURCES)


def source_table(totals: Totals, files: Sequence[RankedFile]) -> pa.Table:
    """Of `schema.SOURCES`, in the order of their names; sources with nothing but rejects included."""
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
    rejects = pa.table(reject_counts, schema=schema.REJECT_COUNTS)
    columns = {
        "source": names,
        **dict(zip(COUNTED, counts.reshape(-1, len(COUNTED)).T, strict=True)),
        "tie_block": [tie_blocks.get(name, 0) for name in names],
        "rejected": _by_source(names, rejects),
        "cutoff_scores": _by_source(names, cutoff_scores_by_source(files)),
    }
    return pa.table(columns, schema=schema.SOURCES)


def rejected_by_source(sources: pa.Table) -> dict[tuple[str, str], int]:
    """The rejected records of a table of `schema.SOURCES`, by source and reason."""
    lists = sources["rejected"].combine_chunks()
    owners = sources["source"].take(pc.list_parent_indices(lists)).to_pylist()
    reasons, records = (lists.flatten().field(name).to_pylist() for name in ("reason", "records"))
    return dict(zip(zip(owners, reasons, strict=True), records, strict=True))


def _by_source(names: Sequence[str], rows: pa.Table) -> pa.ListArray:
    """For each of the sources ``names`` the list of its ``rows``; both are in the order of the names."""
    place = pc.index_in(rows["source"], pa.array(names, pa.string())).to_numpy()
    ends = np.cumsum(np.bincount(place, minlength=len(names)))
    members = rows.drop_columns("source").combine_chunks().to_struct_array().combine_chunks()
    return pa.ListArray.from_arrays(pa.array([0, *ends], pa.int32()), members)
