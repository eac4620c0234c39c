"""Sorted runs: rows in order, as bytes, with a sample of their keys."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from bisieve.coded import trimmed
from bisieve.sort.keys import Order, sorted_indices

SAMPLE_EVERY = 512  # rows
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")


@dataclass(frozen=True)
class Run:
    """Some rows in order; runs are told apart, and put in order, by their ``number``."""

    number: tuple[int, ...]
    rows: bytes  # an Arrow table

    @property
    def table(self) -> pa.Table:
        """The rows."""
        return from_bytes(self.rows)


@dataclass(frozen=True)
class Sample:
    """The keys of some rows of a run, each standing for ``weights`` rows, of which it is the middle one."""

    keys: bytes  # an Arrow table
    weights: tuple[int, ...]


def sorted_run(number: tuple[int, ...], table: pa.Table, order: Order) -> tuple[Run, Sample]:
    """A run of the rows of ``table``, and its sample."""
    table = table.take(sorted_indices(table, order))
    starts = np.arange(0, table.num_rows, SAMPLE_EVERY)
    weights = np.diff([*starts, table.num_rows])
    keys = table.select([name for name, _ in order]).take(starts + weights // 2)
    return Run(number, to_bytes(table)), Sample(to_bytes(keys), tuple(weights.tolist()))


def to_bytes(table: pa.Table) -> bytes:
    """``table`` as an Arrow stream, compressed: an engine copies these bytes several times."""
    table = trimmed(table)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=_COMPRESSED) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def from_bytes(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in an Arrow stream, or only the named ``columns``: the others are not unpacked."""
    stream = pa.ipc.open_stream(pa.py_buffer(data))
    if columns is None:
        return stream.read_all()
    wanted = [stream.schema.get_field_index(name) for name in columns]
    options = pa.ipc.IpcReadOptions(included_fields=wanted)
    return pa.ipc.open_stream(pa.py_buffer(data), options=options).read_all()
