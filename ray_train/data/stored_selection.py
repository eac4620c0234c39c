"""A selection that no index has, as the driver stores it in the run's folder and each worker reads it.

OUTPUT/selection.parquet      the selected rows, `schemas.INDEX`; in its metadata the fingerprint, and what
                              was left out

A selection by the options of its index that leaves out nothing is read from the index, and is not stored.
"""

import io

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from bisieve import schemas
from bisieve.errors import TrainingError
from bisieve.index.exclusion import LeftOut
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
_FINGERPRINT, _LEFT_OUT = b"selection", b"left_out"


def store_selection(config: TrainConfig, index: Index, selection: Selection) -> None:
    """Write the selection into the run's folder, unless workers read it from the index.

    Args:
        config: Of the run, with α as a number.
        index: The version that is trained on.
        selection: What the driver has selected.

    Raises:
        StorageError: The file cannot be written.
    """
    if _is_in_index(config, index):
        return
    left_out = msgspec.json.encode(selection.left_out)
    rows = selection.rows.replace_schema_metadata(
        {_FINGERPRINT: selection.fingerprint.encode(), _LEFT_OUT: left_out}
    )
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
    if _is_in_index(config, index):
        selection = read_selection(index, config.fraction)
        found = selection.fingerprint
    else:
        rows, found, left_out = _read(join(config.output, STORED))
        parameters = asked_parameters(index, config.ranking)
        selection = selection_of_rows(index, rows, config.fraction, parameters, left_out=left_out)
    if not fingerprint == found == selection.fingerprint:
        raise TrainingError(
            "the selection that the run was started with", "another selection", "start the run again"
        )
    return selection


def _is_in_index(config: TrainConfig, index: Index) -> bool:
    return is_as_ranked(index, config.ranking) and not config.exclude


def _read(url: str) -> tuple[pa.Table, str, LeftOut]:
    """Return the rows of the file, and the fingerprint and what was left out in its metadata."""
    data = pa.BufferReader(storage.read_bytes(url))
    try:
        table = pq.read_table(data, pre_buffer=False, use_threads=False)
        metadata = table.schema.metadata or {}
        found = metadata[_FINGERPRINT].decode()
        left_out = msgspec.json.decode(metadata.get(_LEFT_OUT, b"{}"), type=LeftOut)
        rows = table.replace_schema_metadata(None).select(schemas.INDEX.names).cast(schemas.INDEX)
        return rows, found, left_out
    except (pa.ArrowException, KeyError, msgspec.DecodeError) as error:
        raise TrainingError(
            f"the selection of the run at {url}", "a damaged file", "start the run again"
        ) from error
