"""Which layout each shard has, told from its first records."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bisieve.errors import CorpusError
from bisieve.io.file_names import is_parquet
from bisieve.io.storage import FileInfo
from bisieve.records.field_hints import merged, sample_of, suggested_options
from bisieve.records.options import STEPS, Layout, ReadOptions
from bisieve.shards.jsonl import read_blocks
from bisieve.shards.parquet import columns_of, shown_layout

_HEAD = 2**18  # bytes
_LINES = 100
_READERS = 32  # stores answer slowly, but many at once

Found = dict[FileInfo, Layout | None]


def find_layouts(shards: Iterable[FileInfo], reading: ReadOptions) -> Found:
    """The layout that each of ``shards`` shows, None where none of its first records shows one.

    No shard is opened where the layout was named.
    """
    shards = list(shards)
    if reading.layout != "auto":
        return dict.fromkeys(shards, reading.layout)
    with ThreadPoolExecutor(_READERS) as readers:
        return dict(zip(shards, readers.map(lambda shard: _layout(shard.url, reading), shards), strict=True))


def resolve_layouts(
    shards: Sequence[FileInfo], found: Mapping[FileInfo, Layout | None], reading: ReadOptions
) -> dict[FileInfo, Layout]:
    """The layout of each of ``shards``; of one that shows none rollouts: its records are rejected by reason.

    `CorpusError` where no shard shows one: then it is the field names, or the input, that are wrong.
    """
    if not any(found[shard] for shard in shards):
        raise _none_shown(shards[0], reading)
    return {shard: found[shard] or "rollouts" for shard in shards}


def _layout(url: str, reading: ReadOptions) -> Layout | None:
    if is_parquet(url):
        return shown_layout(url, reading)
    for record in _first_records(url):
        if layout := reading.layout_of({name: isinstance(value, list) for name, value in record.items()}):
            return layout
    return None


def _none_shown(shard: FileInfo, reading: ReadOptions) -> CorpusError:
    names, url = reading.names, shard.url
    fields = list(sample_record(url))
    nothing = "no JSON object in the first lines of" if shard.size else "an empty file at"
    found = f"the fields {', '.join(fields[:12])} in" if fields else nothing
    return CorpusError(
        f"records with {names[STEPS]} (rollouts) or with {names['rollout_id']}, "
        f"{names['step_index']} and {names['step']} (steps)",
        f"{found} {url}",
        fitting_options(url, reading) or "check --input and --field, or name the --layout",
    )


def fitting_options(url: str, reading: ReadOptions) -> str:
    """Return "did you mean …?" with the options that would read the records of a shard; "" for none."""
    options = suggested_options(sample_record(url), reading)
    return options and f"did you mean {options}?"


def sample_record(url: str) -> dict[str, Any]:
    """Return a record that has the fields of a shard; {} where none shows."""
    if is_parquet(url):
        return dict(sample_of(columns_of(url)))
    return dict(sorted(merged(_first_records(url)).items()))


def _first_records(url: str) -> list[dict[str, Any]]:
    head = next(read_blocks(url, 0, sys.maxsize, size=_HEAD), None)
    records = []
    for line in head.data.split(b"\n", _LINES)[:_LINES] if head else []:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            records.append(record)
    return records
