"""A selection that no index has, as the driver stores it in the run's folder and each worker reads it.

OUTPUT/selection.parquet      the selected rows, `schemas.INDEX`; the fingerprint in its metadata

A selection by the options of its index is read from the index, and is not stored.
"""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from bisieve import schemas
from bisieve.errors import TrainingError
from bisieve.index.reader import Index
from bisieve.index.selection import (
    Selection,
    asked_parameters,
    is_as_ranked,
    read_selection,
    selection_of_rows,
)
from bisieve.io import storage
from bisieve.io.urls import join
from ray_train.config import TrainConfig

STORED = "selection.parquet"
_FINGERPRINT = b"selection"


def store_selection(config: TrainConfig, index: Index, selection: Selection) -> None:
    """Write the selection into the run's folder, unless workers read it from the index.

    Args:
        config: Of the run, with α as a number.
        index: The version that is trained on.
        selection: What the driver has selected.

    Raises:
        StorageError: The file cannot be written.
    """
    if is_as_ranked(index, config.ranking):
        return
    rows = selection.rows.replace_schema_metadata({_FINGERPRINT: selection.fingerprint.encode()})
    file = io.BytesIO()
    pq.write_table(rows, file, compression="zstd")
    storage.write_bytes(join(config.output, STORED), file.getvalue())


def driver_selection(config: TrainConfig, index: Index, fingerprint: str) -> Selection:
    """Return the selection that the driver has made, in a worker.

    Args:
        config: Of the run, with α as a number.
        index: The version that is trained on.
        fingerprint: Of the driver's selection.

    Raises:
        TrainingError: It is not the one that the run was started with, or its file is damaged.
        StorageError: Its file cannot be read.
    """
    if is_as_ranked(index, config.ranking):
        selection = read_selection(index, config.fraction)
        found = selection.fingerprint
    else:
        rows, found = _read(join(config.output, STORED))
        parameters = asked_parameters(index, config.ranking)
        selection = selection_of_rows(index, rows, config.fraction, parameters)
    if not fingerprint == found == selection.fingerprint:
        raise TrainingError(
            "the selection that the run was started with", "another selection", "start the run again"
        )
    return selection


def _read(url: str) -> tuple[pa.Table, str]:
    """Return the rows of the file and the fingerprint in its metadata."""
    data = pa.BufferReader(storage.read_bytes(url))
    try:
        table = pq.read_table(data, pre_buffer=False, use_threads=False)
        found = (table.schema.metadata or {})[_FINGERPRINT].decode()
        return table.replace_schema_metadata(None).select(schemas.INDEX.names).cast(schemas.INDEX), found
    except (pa.ArrowException, KeyError) as error:
        raise TrainingError(
            f"the selection of the run at {url}", "a damaged file", "start the run again"
        ) from error
