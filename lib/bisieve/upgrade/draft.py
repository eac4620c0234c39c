"""What an upgrade is going to write for one version: until it is saved, the store is only read."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bisieve.index_files import open_part, read_table
from bisieve.manifest import DataFile, version_folder
from bisieve.parts import encoded_part
from bisieve.storage import join, write_bytes

Fields = dict[str, Any]  # of a manifest, or of a data file in it: as JSON has them


@dataclass(frozen=True)
class Draft:
    """Lists of one version, the old ones in the store and new ones still in memory."""

    index: str  # URL
    fingerprint: str  # of the version
    files: dict[str, bytes] = field(default_factory=dict)  # the new ones, by path relative to the index

    def read(self, file: Mapping[str, Any]) -> pa.Table:
        """A whole list, new or old; `IndexUnusableError` where an old one is not as it was written."""
        if file["path"] in self.files:
            return pq.read_table(pa.BufferReader(self.files[file["path"]]), use_threads=False)
        return read_table(self.index, DataFile(**file))

    def read_columns(self, file: Mapping[str, Any], columns: list[str]) -> pa.Table:
        """Some columns of a file of ranked rows; `IndexUnusableError` where it is damaged."""
        with open_part(self.index, DataFile(**file)) as part:
            return part.read(columns, use_threads=False)

    def write(self, name: str, format_version: int, table: pa.Table) -> Fields:
        """Takes a list of ``format_version``; no file that is there already has its path."""
        path = f"{version_folder(self.fingerprint)}/format-{format_version}/{name}.parquet"
        file, self.files[path] = encoded_part(path, table, table.schema)
        return asdict(file)

    def save(self) -> None:
        """Writes the new lists, which nobody sees before a manifest names them."""
        for path, data in self.files.items():
            write_bytes(join(self.index, path), data)
