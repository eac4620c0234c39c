"""The shards of a corpus: which files they are, and how they are split among tasks."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from bisieve.errors import CorpusError
from bisieve.lines import CODECS, codec_of
from bisieve.storage import FileInfo, basename, join, list_files
from bisieve.wording import counted

DISK = "file://"
PARQUET = ".parquet"
SUFFIXES = (*(f"{kind}{codec}" for kind in (".jsonl", ".ndjson") for codec in ("", *CODECS)), PARQUET)
NOT_READ = (".json", ".json.gz")  # what may be a shard to its owner

OPENING = 2**18  # bytes that could be read while a store opens a file
SMALLEST_TASK, LARGEST_TASK = 8 * 2**20, 256 * 2**20  # bytes


@dataclass(frozen=True, slots=True)
class Split:
    """A byte range of a shard, with the lines or the row groups that begin in it; of a compressed one all."""

    shard: str  # URL
    start: int
    end: int
    stored: int = 0  # bytes to read from the store


def list_shards(inputs: Sequence[str]) -> list[FileInfo]:
    """The JSONL and Parquet files at the input URLs (files, folders or globs), each once, ordered by URL.

    One listing an input.  Of several links to a file on a disk the first counts.  Files of other kinds
    inside a folder are no shards; `CorpusError` where an input holds no shard at all, so that a wrong folder
    is never taken for an empty corpus.
    """
    shards: dict[str, FileInfo] = {}
    for url in inputs:
        files = list_files(url)
        found = {file.url: file for file in files if file.url.endswith(SUFFIXES)}
        if not found:
            others = f"{counted(len(files), 'other file')}, such as {files[0].url}" if files else "no file"
            raise CorpusError(
                f"shards ({', '.join('*' + suffix for suffix in SUFFIXES)}) at {url}", others, "check --input"
            )
        if unread := [file.url for file in files if file.url.endswith(NOT_READ)]:
            raise CorpusError(
                f"shards alone ({', '.join('*' + suffix for suffix in SUFFIXES)}) at {url}",
                f"{counted(len(unread), 'other')}, such as {unread[0]}",
                "write them as one of these, or name the shards to read by a glob",
            )
        shards |= found
    return list(_each_once([shards[url] for url in sorted(shards)]))


def _each_once(shards: Sequence[FileInfo]) -> Iterator[FileInfo]:
    home_of = cache(os.path.realpath)  # asked once a folder: there may be very many shards in it
    seen = set()
    for shard in shards:
        place = shard.url
        if place.startswith(DISK):
            path = place.removeprefix(DISK)
            linked = os.path.islink(path)
            place = os.path.realpath(path) if linked else join(home_of(os.path.dirname(path)), basename(path))
        if place not in seen:
            yield shard
        seen.add(place)


def plan_tasks(shards: Sequence[FileInfo], cores: int) -> list[list[Split]]:
    """All of ``shards`` as splits, packed into tasks.

    A task is big enough that starting it does not count, small enough that all cores end at about one time
    and that one that is lost is soon done again.
    """
    weight = sum(shard.size + OPENING for shard in shards)
    task_bytes = min(max(weight // (8 * cores), SMALLEST_TASK), LARGEST_TASK)
    return packed(split_shards(shards, task_bytes), task_bytes)


def split_shards(shards: Sequence[FileInfo], split_bytes: int) -> list[Split]:
    """Byte ranges of at most ``split_bytes`` that cover every shard; a compressed shard cannot be split."""
    splits = []
    for shard in shards:
        if codec_of(shard.url) is not None:
            splits.append(Split(shard.url, 0, sys.maxsize, shard.size))
            continue
        # An empty text has no record; an empty Parquet file is a broken one, and is opened to say so.
        for start in range(0, max(shard.size, int(is_parquet(shard.url))), split_bytes):
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
        held += split.stored + OPENING
    return tasks


def is_parquet(url: str) -> bool:
    """Whether the shard at ``url`` holds rows; the others hold lines."""
    return url.endswith(PARQUET)


def is_seekable(url: str) -> bool:
    """Whether single records of the shard at ``url`` can be read at no more cost than their bytes."""
    return codec_of(url) is None and not is_parquet(url)


def file_stem(url: str) -> str:
    """A shard's file name without the suffix."""
    name = basename(url)
    return next((name.removesuffix(suffix) for suffix in SUFFIXES[::-1] if name.endswith(suffix)), name)


def folder_name(url: str) -> str:
    """The name of the folder that a shard lies in."""
    return url.rsplit("/", 2)[-2]
