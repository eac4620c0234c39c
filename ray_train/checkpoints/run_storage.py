"""The store of a run as Ray Train is to see it: patient, and with files that appear when they are whole.

Ray's controller keeps its list of committed checkpoints there.  On a disk it would write over the last one,
and a kill in the midst of it would lose the run.
"""

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem
from pyarrow.fs import FSSpecHandler, PyFileSystem

from bisieve import storage
from bisieve.patience import patiently


def run_storage(url: str) -> dict[str, Any]:
    """The part of Ray Train's `RunConfig` that says where a run lies."""
    fs, path = storage.open_filesystem(url)
    if not isinstance(fs, LocalFileSystem):
        # A listing kept from before a write would hide what another worker wrote since.
        fs = type(fs)(**fs.storage_options, use_listings_cache=False)
    return {"storage_path": path, "storage_filesystem": PyFileSystem(PatientHandler(fs))}


class PatientHandler(FSSpecHandler):  # type: ignore[misc]
    """An fsspec file system for pyarrow, whose requests are begun anew when a store is out of sorts."""

    def get_file_info(self, paths: Any) -> Any:
        return patiently(partial(super().get_file_info, paths))

    def get_file_info_selector(self, selector: Any) -> Any:
        return patiently(partial(super().get_file_info_selector, selector))

    def create_dir(self, path: str, recursive: bool) -> None:
        patiently(partial(super().create_dir, path, recursive))

    def open_input_stream(self, path: str) -> Any:
        data = storage.read_bytes(self.fs.unstrip_protocol(path))
        return pa.PythonFile(io.BytesIO(data), mode="r")

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        write = partial(storage.write_bytes, self.fs.unstrip_protocol(path))
        return pa.PythonFile(_WrittenWhole(write), mode="w")


class _WrittenWhole(io.BytesIO):
    """Hands over all that was written, once, when it is closed."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        super().__init__()
        self._write = write

    def close(self) -> None:
        if not self.closed:
            data = self.getvalue()
            super().close()
            self._write(data)
