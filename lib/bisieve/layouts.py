"""Which layout each shard has, told from its first records."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bisieve.errors import CorpusError
from bisieve.lines import read_blocks
from bisieve.parquet import column_names, shown_layout
from bisieve.reading import Layout, Reading
from bisieve.shards import is_parquet
from bisieve.storage import FileInfo

_HEAD = 2**18  # bytes
_LINES = 100
_READERS = 32  # stores answer slowly, but many at once

# What other tools call the fields.
_SYNONYMS = {
    "rollout_id": ("id", "uid", "sample_id", "solution_id"),
    "image": ("images", "image_path", "img", "image_file"),
    "question": ("prompt", "problem", "query", "instruction"),
    "steps_with_score": ("steps_with_scores", "trace", "process"),
    "step_index": ("step_id", "step_idx", "step_number"),
    "step": ("completions", "steps", "completion", "text"),
    "score": ("labels", "scores", "step_scores", "label", "value"),
}

Found = dict[FileInfo, Layout | None]


def find_layouts(shards: Iterable[FileInfo], reading: Reading) -> Found:
    """The layout that each of ``shards`` shows, None where none of its first records shows one.

    No shard is opened where the layout was named.
    """
    shards = list(shards)
    if reading.layout != "auto":
        return dict.fromkeys(shards, reading.layout)
    with ThreadPoolExecutor(_READERS) as readers:
        return dict(zip(shards, readers.map(lambda shard: _layout(shard.url, reading), shards), strict=True))


def settled(
    shards: Sequence[FileInfo], found: Mapping[FileInfo, Layout | None], reading: Reading
) -> dict[FileInfo, Layout]:
    """The layout of each of ``shards``; of one that shows none rollouts: its records are rejected by reason.

    `CorpusError` where no shard shows one: then it is the field names, or the input, that are wrong.
    """
    if not any(found[shard] for shard in shards):
        raise _none_shown(shards[0], reading)
    return {shard: found[shard] or "rollouts" for shard in shards}


def _layout(url: str, reading: Reading) -> Layout | None:
    if is_parquet(url):
        return shown_layout(url, reading)
    for record in _first_records(url):
        if reading.names["steps_with_score"] in record:
            return "rollouts"
        if reading.names["step_index"] in record:
            return "steps"
    return None


def _none_shown(shard: FileInfo, reading: Reading) -> CorpusError:
    names, url = reading.names, shard.url
    fields = column_names(url) if is_parquet(url) else next(map(sorted, _first_records(url)), [])
    nothing = "no JSON object in the first lines of" if shard.size else "an empty file at"
    found = f"the fields {', '.join(fields[:12])} in" if fields else nothing
    return CorpusError(
        f"records with {names['steps_with_score']} (rollouts) or with {names['rollout_id']}, "
        f"{names['step_index']} and {names['step']} (steps)",
        f"{found} {url}",
        _mapping(fields, reading, is_parquet(url)) or "check --input and --field, or name the --layout",
    )


def _mapping(found: Sequence[str], reading: Reading, rows: bool) -> str:
    """Return the ``--field`` options that would fit the fields ``found``, or nothing where no steps show."""
    fits = {
        ours: next((theirs for theirs in _SYNONYMS[ours] if theirs in found), None)
        for ours in _SYNONYMS
        if reading.names[ours] not in found
    }
    if fits.get("steps_with_score"):
        fits = {ours: theirs for ours, theirs in fits.items() if ours not in ("step", "score")}
    # Lists side by side are read of Parquet alone.
    elif not fits.get("step_index") and not (rows and fits.get("step")):
        return ""
    options = " ".join(f"--field {ours}={theirs}" for ours, theirs in fits.items() if theirs)
    return f"did you mean {options}?"


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
