"""The list of a version's files: ranked rows and rejects, with their sizes and checksums."""

from collections.abc import Sequence
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from bisieve import schema
from bisieve.manifest import DataFile
from bisieve.parts import write_part

Kind = Literal["rollouts", "rejects"]


def write_file_list(
    index_url: str, folder: str, rollouts: Sequence[DataFile], rejects: Sequence[DataFile]
) -> DataFile:
    """Writes the list of a version's files, of `schema.FILES`; `StorageError` where it cannot."""
    files = [*rollouts, *rejects]
    kinds = ["rollouts"] * len(rollouts) + ["rejects"] * len(rejects)
    columns = {name: [getattr(file, name) for file in files] for name in schema.FILES.names[1:]}
    table = pa.table({"kind": kinds, **columns}, schema=schema.FILES)
    return write_part(index_url, f"{folder}/files.parquet", table, schema.FILES)


def files_of_kind(files: pa.Table, kind: Kind) -> list[DataFile]:
    """Those of a list of `schema.FILES`, in order."""
    chosen = files.filter(pc.equal(files["kind"], kind)).drop_columns("kind")
    return [DataFile(**file) for file in chosen.to_pylist()]
