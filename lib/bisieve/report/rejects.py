"""Rejected records by reason, with examples as they are in their shards."""

from dataclasses import dataclass, field

import pyarrow.compute as pc

from bisieve.errors import BisieveError
from bisieve.index.reader import Index, open_part
from bisieve.io.read import read_ranges
from bisieve.io.urls import codec_of, is_parquet
from bisieve.records.model import HINTS

_SHOWN = 600  # bytes of an example
_OF_A_REASON = 3
_COLUMNS = ["reason", "shard", "offset", "length"]


@dataclass
class Reject:
    """A reason for which records were rejected."""

    reason: str
    records: int
    hint: str  # what a user can do; "" if there is nothing to say
    examples: list[tuple[str, str | None]] = field(
        default_factory=list
    )  # shard@offset, its first bytes as text


def find_rejects(index: Index) -> list[Reject]:
    """Return the reasons for which records of an index were rejected, the most frequent first.

    Raises:
        IndexUnusableError: A file of the index is missing or damaged.
    """
    counts = sorted(index.manifest.rejected.items(), key=lambda each: -each[1])
    found = {reason: Reject(reason, records, HINTS.get(reason, "")) for reason, records in counts}
    for part in index.rejects:
        with open_part(index.url, part) as file:
            for group in range(file.num_row_groups):
                if all(reject.examples for reject in found.values()):
                    return list(found.values())
                rows = file.read_row_group(group, _COLUMNS, use_threads=False)
                for reject in found.values():
                    missing = _OF_A_REASON - len(reject.examples)
                    of_it = rows.filter(pc.equal(rows["reason"], reject.reason)) if missing else rows
                    for row in of_it.slice(0, missing).to_pylist():
                        begins = first_bytes(row["shard"], row["offset"], row["length"])
                        reject.examples.append((f"{row['shard']}@{row['offset']}", begins))
    return list(found.values())


def first_bytes(shard: str, offset: int, length: int) -> str | None:
    """Return the beginning of a record; None if its shard is not plain text, or cannot be read."""
    if is_parquet(shard) or codec_of(shard) is not None:
        return None
    try:
        (data,) = read_ranges(shard, [offset], [offset + min(length, _SHOWN)])
    except BisieveError:
        return None
    return data.decode(errors="replace").strip()
