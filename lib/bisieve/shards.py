"""The shards of a corpus: which files they are, which layout they have, how they are split."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bisieve.errors import CorpusError
from bisieve.lines import CODECS, codec_of, read_blocks
from bisieve.records import Layout
from bisieve.storage import FileInfo, basename, list_files

SUFFIXES = tuple(f"{kind}{codec}" for kind in (".jsonl", ".ndjson") for codec in ("", *CODECS))
NOT_READ = (".parquet", ".json", ".json.gz")  # what may be a shard to its owner
_SHARDS_SNIFFED = 16
_LINES_SNIFFED = 100


@dataclass(frozen=True)
class Split:
    """A byte range of a shard; of a compressed one all of it."""

    shard: str  # URL
    start: int
    end: int
    stored: int = 0  # bytes to read from the store


def list_shards(inputs: Sequence[str]) -> list[FileInfo]:
    """The JSONL files at the input URLs (files, folders or globs), each once, ordered by URL.

    One listing an input.  Files of other kinds inside a folder are no shards; `CorpusError` where an input
    holds no shard at all, so that a wrong folder is never taken for an empty corpus.
    """
    shards: dict[str, FileInfo] = {}
    for url in inputs:
        files = list_files(url)
        found = {file.url: file for file in files if file.url.endswith(SUFFIXES)}
        if not found:
            others = f"{len(files)} other files, such as {files[0].url}" if files else "no file"
            raise CorpusError(
                f"shards ({', '.join('*' + suffix for suffix in SUFFIXES)}) at {url}", others, "check --input"
            )
        if unread := [file.url for file in files if file.url.endswith(NOT_READ)]:
            raise CorpusError(
                f"shards of one kind ({', '.join('*' + suffix for suffix in SUFFIXES)}) at {url}",
                f"{len(unread)} others, such as {unread[0]}",
                "unpack them, or name the shards to read by a glob",
            )
        shards |= found
    return sorted(shards.values())


def split_shards(shards: Sequence[FileInfo], split_bytes: int) -> list[Split]:
    """Byte ranges of at most ``split_bytes`` that cover every shard; a compressed shard cannot be split."""
    splits = []
    for shard in shards:
        if codec_of(shard.url) is not None:
            splits.append(Split(shard.url, 0, sys.maxsize, shard.size))
            continue
        for start in range(0, shard.size, split_bytes):
            end = min(start + split_bytes, shard.size)
            splits.append(Split(shard.url, start, end, end - start))
    return splits


def packed(splits: Sequence[Split], task_bytes: int) -> list[list[Split]]:
    """The splits in groups of about ``task_bytes``, in order: many small shards make few tasks."""
    tasks: list[list[Split]] = []
    held = task_bytes
    for split in splits:
        if held >= task_bytes:
            tasks.append([])
            held = 0
        tasks[-1].append(split)
        held += split.stored
    return tasks


def file_stem(url: str) -> str:
    """The default source of a shard: its file name without the suffix."""
    name = basename(url)
    return next((name.removesuffix(suffix) for suffix in SUFFIXES[::-1] if name.endswith(suffix)), name)


def detect_layout(shards: Sequence[FileInfo]) -> Layout:
    """The layout of the first record that shows one; `CorpusError` where none of the first records does.

    A corpus has one layout: what has another is rejected, record by record, under its reason.
    """
    fields: list[str] = []
    for shard in shards[:_SHARDS_SNIFFED]:
        for record in _first_records(shard):
            if "steps_with_score" in record:
                return "rollouts"
            if "step_index" in record:
                return "steps"
            fields = fields or sorted(record)
    found = f"the fields {', '.join(fields[:12])}" if fields else "no JSON object in the first lines"
    raise CorpusError(
        "records with steps_with_score (rollouts) or with rollout_id, step_index and step (steps)",
        f"{found} in {shards[0].url}",
        "check --input, or name the --layout",
    )


def _first_records(shard: FileInfo) -> list[dict[str, Any]]:
    head = next(read_blocks(shard.url, 0, sys.maxsize, size=2**18), None)
    records = []
    for line in head.data.split(b"\n", _LINES_SNIFFED)[:_LINES_SNIFFED] if head else []:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            records.append(record)
    return records
