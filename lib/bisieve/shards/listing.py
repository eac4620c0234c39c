"""The shards of a corpus: which files they are, and how they are split into tasks.

`list_inputs` finds the shards at the input URLs.  `plan_tasks` divides them into byte ranges
(`split_shards`) and groups these into tasks (`packed`).
"""

import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from bisieve._text import pluralize
from bisieve.errors import CorpusError
from bisieve.io.storage import DANGLING, FileInfo, broken_link, list_files
from bisieve.io.urls import CODECS, SUFFIXES, basename, codec_of, file_stem, is_parquet, join
from bisieve.schemas import MANIFEST

DISK = "file://"

NOT_READ = tuple(f".json{codec}" for codec in ("", *CODECS))  # the user may expect these to be read
# Files beside shards that are not data: images, texts about the data, checksums.
_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".svg")
_WORDS = (".md", ".rst", ".txt", ".html", ".pdf", ".log", ".yaml", ".yml", ".toml", ".ini", ".py", ".sh")
_CHECKSUMS = (".crc", ".md5", ".sha1", ".sha256", ".sha512")
NOT_DATA = (*_IMAGES, *_WORDS, *_CHECKSUMS)
_NOT_DATA_NAMES = ("readme", "license", "licence", "notice", "changelog", "makefile", "md5sums", "sha256sums")

OPENING = 2**18  # cost of opening a file, in bytes that could be read in the same time
SMALLEST_TASK, LARGEST_TASK = 8 * 2**20, 256 * 2**20  # bytes

_SHARDS = "shards (*.jsonl, *.jsonl.gz, *.parquet or another suffix of docs/reference/records.md)"


@dataclass(frozen=True, slots=True)
class Split:
    """Byte range of a shard: the lines or Parquet row groups that begin in it.

    A compressed shard is one split from 0 to ``sys.maxsize``.
    """

    shard: str  # URL
    start: int  # bytes
    end: int  # bytes, exclusive
    stored: int = 0  # bytes to read from the store (of a compressed shard its file size)


@dataclass(frozen=True)
class Listing:
    """Shards and other files found at the input URLs."""

    shards: list[FileInfo]  # each once, ordered by URL
    left_out: list[str]  # files that may be data but are of no kind that is read: URLs, sorted


def list_shards(inputs: Sequence[str], index: str | None = None) -> list[FileInfo]:
    """Return the shards at the input URLs, as `list_inputs` does."""
    return list_inputs(inputs, index).shards


def list_inputs(inputs: Sequence[str], index: str | None = None) -> Listing:
    """Return the JSONL and Parquet files at the input URLs, and the files that are left out.

    Each input is listed once.  A local file that is reached by several paths or links is one shard, the
    first of them by URL.

    Files of other kinds are not shards.  Those that may be data, and symbolic links without a target, are
    named in `Listing.left_out`; images, texts about the data and checksums are ignored.  The files of an
    index are ignored, too: of the index at ``index``, and of any folder with a manifest and versions.

    Args:
        inputs: URLs of files, folders or globs.
        index: URL of the index that this run writes, which may be below an input.

    Raises:
        CorpusError: An input has no shard (a wrong folder must not look like an empty corpus), or has
            ``.json`` files, which the user may expect to be read.
        StorageError: An input does not exist or cannot be listed, or a symbolic link with the suffix of a
            shard has no target.
    """
    shards: dict[str, FileInfo] = {}
    left_out: set[str] = set()
    for url in inputs:
        listed = list_files(url, dangling=True)
        outside = _outside_indexes(listed, index)
        files = [file for file in outside if file.etag != DANGLING]
        links = [file.url for file in outside if file.etag == DANGLING and _may_be_data(file.url)]
        if lost := next((link for link in links if link.lower().endswith(SUFFIXES)), None):
            raise broken_link(lost)
        left_out |= {f"{link} ({DANGLING})" for link in links}
        if listed and not outside:
            raise CorpusError(f"shards at {url}", "the files of an index", "check --input and --index")
        found = {file.url: file for file in files if file.url.lower().endswith(SUFFIXES)}
        if not found:
            others = f"{pluralize(len(files), 'other file')}, such as {files[0].url}" if files else "no file"
            hint = "check --input"
            if len(files) == 1 and files[0].url == url:
                others, hint = "a file with another suffix", "rename or convert it"
            raise CorpusError(f"{_SHARDS} at {url}", others, hint)
        if unread := [file.url for file in files if file.url.lower().endswith(NOT_READ)]:
            raise CorpusError(
                f"nothing but {_SHARDS} at {url}",
                f"{pluralize(len(unread), 'other')}, such as {unread[0]}",
                "write them as one of these, or name the shards to read by a glob",
            )
        shards |= found
        left_out |= {file.url for file in files if file.url not in found and _may_be_data(file.url)}
    return Listing(list(_each_once([shards[url] for url in sorted(shards)])), sorted(left_out))


_BESIDE_VERSIONS = (MANIFEST, "passed.json")  # only these are the index's: its folder may contain shards


def _outside_indexes(files: Sequence[FileInfo], index: str | None) -> list[FileInfo]:
    """Return those of ``files`` that belong to no index, which is a folder with a manifest and versions."""
    urls = [file.url for file in files]
    versions = {url.split("/versions/")[0] for url in urls if "/versions/" in url}
    homes = {home for home in versions if join(home, MANIFEST) in set(urls)}
    homes |= set() if index is None else {index}
    if not homes:
        return list(files)
    versions_of = tuple(join(home, "versions/") for home in homes)
    beside = {join(home, name) for home in homes for name in _BESIDE_VERSIONS}
    return [file for file in files if not file.url.startswith(versions_of) and file.url not in beside]


def _may_be_data(url: str) -> bool:
    """Return whether a file of no known kind may be data: it is no image, text or checksum by its name."""
    name = basename(url).lower()
    return not (name.endswith(NOT_DATA) or name.split(".")[0] in _NOT_DATA_NAMES)


def _each_once(shards: Sequence[FileInfo]) -> Iterator[FileInfo]:
    """Yield each file once, although several local paths or links may lead to it: the first of them."""
    home_of = cache(os.path.realpath)  # once per folder, which may have very many shards
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
    """Return ``shards`` as splits, grouped into tasks: about 8 tasks per core, each of 8 to 256 MiB.

    A task is large enough that the time to start it does not matter, and small enough that all cores finish
    at about the same time and a lost task is repeated quickly.
    """
    weight = sum(shard.size + OPENING for shard in shards)
    task_bytes = min(max(weight // (8 * cores), SMALLEST_TASK), LARGEST_TASK)
    return packed(split_shards(shards, task_bytes), task_bytes)


def split_shards(shards: Sequence[FileInfo], split_bytes: int) -> list[Split]:
    """Return splits of at most ``split_bytes`` that cover every shard; a compressed shard is one split."""
    splits = []
    for shard in shards:
        if codec_of(shard.url) is not None:
            splits.append(Split(shard.url, 0, sys.maxsize, shard.size))
            continue
        # An empty JSONL file has no record.  An empty Parquet file is damaged: it gets a split, so that the
        # scan opens it and raises.
        for start in range(0, max(shard.size, int(is_parquet(shard.url))), split_bytes):
            end = min(start + split_bytes, shard.size)
            splits.append(Split(shard.url, start, end, end - start))
    return splits


def packed(splits: Sequence[Split], task_bytes: int) -> list[list[Split]]:
    """Group the splits, in order, into tasks of about ``task_bytes``: many small shards make few tasks."""
    tasks: list[list[Split]] = []
    held = task_bytes
    for split in splits:
        if held >= task_bytes:
            tasks.append([])
            held = 0
        tasks[-1].append(split)
        held += split.stored + OPENING
    return tasks


def merged_stems(shards: Sequence[FileInfo]) -> list[str]:
    """Return the file stems that occur in several folders, sorted: by default each of them is one source."""
    folders: dict[str, set[str]] = defaultdict(set)
    for shard in shards:
        folders[file_stem(shard.url)].add(shard.url.rsplit("/", 1)[0])
    return sorted(stem for stem, found in folders.items() if len(found) > 1)
