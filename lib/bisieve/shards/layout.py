"""Detection of the layout of each shard (rollouts or steps) from its first records or its columns."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bisieve.errors import CorpusError
from bisieve.io.storage import FileInfo
from bisieve.io.urls import is_parquet
from bisieve.records.field_hints import merged, sample_of, suggested_options
from bisieve.records.options import STEPS, Layout, ReadOptions
from bisieve.shards.jsonl import read_blocks
from bisieve.shards.parquet import columns_of, shown_layout

_HEAD = 2**18  # bytes read from the start of a JSONL shard
_LINES = 100  # the limit of the first lines that are decoded
_READERS = 32  # shards read at the same time: stores answer slowly, but many requests in parallel

Found = dict[FileInfo, Layout | None]


def find_layouts(shards: Iterable[FileInfo], reading: ReadOptions) -> Found:
    """Return the layout that each of ``shards`` shows, or None if its first records show none.

    If ``reading`` names the layout, no shard is opened.
    """
    shards = list(shards)
    if reading.layout != "auto":
        return dict.fromkeys(shards, reading.layout)
    with ThreadPoolExecutor(_READERS) as readers:
        return dict(zip(shards, readers.map(lambda shard: _layout(shard.url, reading), shards), strict=True))


def resolve_layouts(
    shards: Sequence[FileInfo], found: Mapping[FileInfo, Layout | None], reading: ReadOptions
) -> dict[FileInfo, Layout]:
    """Return the layout to read each of ``shards`` with.

    A shard that shows none is read as rollouts, so that its records are rejected with a reason.

    Args:
        shards: All shards of a run.
        found: The layouts that they show.
        reading: The options that were given, for the error.

    Raises:
        CorpusError: No shard shows a layout: the field names or the inputs are wrong.
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
    """Return the error for shards that show no layout, with the fields of the first and a suggestion."""
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
    """Return "did you mean …?" with options that would read the records of a shard; "" if none are found."""
    options = suggested_options(sample_record(url), reading)
    return options and f"did you mean {options}?"


def sample_record(url: str) -> dict[str, Any]:
    """Return an example record with the fields of a shard, from its columns or first lines; {} if none."""
    if is_parquet(url):
        return dict(sample_of(columns_of(url)))
    return dict(sorted(merged(_first_records(url)).items()))


def _first_records(url: str) -> list[dict[str, Any]]:
    """Return the JSON objects among the first lines of a shard; other lines are skipped."""
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
