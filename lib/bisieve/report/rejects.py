"""Rejected records by reason, with examples as they are in their shards."""

from dataclasses import dataclass, field

from bisieve.errors import BisieveError
from bisieve.index.reader import Index, open_part
from bisieve.io.file_names import codec_of, is_parquet
from bisieve.io.read import read_ranges
from bisieve.records.model import HINTS

_SHOWN = 600  # bytes of an example
_OF_A_REASON = 3


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
                columns = ["reason", "shard", "offset", "length"]
                for row in file.read_row_group(group, columns, use_threads=False).to_pylist():
                    examples = found[row["reason"]].examples
                    if len(examples) < _OF_A_REASON:
                        place = f"{row['shard']}@{row['offset']}"
                        examples.append((place, first_bytes(row["shard"], row["offset"], row["length"])))
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
