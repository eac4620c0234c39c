"""The shards of a corpus: which files they are, and how they are split among tasks."""

import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from bisieve._text import pluralize
from bisieve.errors import CorpusError
from bisieve.io.file_names import CODECS, SUFFIXES, codec_of, file_stem, is_parquet
from bisieve.io.storage import DANGLING, FileInfo, basename, join, link_to_nothing, list_files
from bisieve.schemas import MANIFEST

DISK = "file://"

NOT_READ = tuple(f".json{codec}" for codec in ("", *CODECS))  # what may be a shard to its owner
# What lies beside shards and is no data: images and words about them.
_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".svg")
_WORDS = (".md", ".rst", ".txt", ".html", ".pdf", ".log", ".yaml", ".yml", ".toml", ".ini", ".py", ".sh")
_CHECKSUMS = (".crc", ".md5", ".sha1", ".sha256", ".sha512")
NOT_DATA = (*_IMAGES, *_WORDS, *_CHECKSUMS)
_NOT_DATA_NAMES = ("readme", "license", "licence", "notice", "changelog", "makefile", "md5sums", "sha256sums")

OPENING = 2**18  # bytes that could be read while a store opens a file
SMALLEST_TASK, LARGEST_TASK = 8 * 2**20, 256 * 2**20  # bytes


@dataclass(frozen=True, slots=True)
class Split:
    """A byte range of a shard, with the lines or the row groups that begin in it; of a compressed one all."""

    shard: str  # URL
    start: int
    end: int
    stored: int = 0  # bytes to read from the store


@dataclass(frozen=True)
class Listing:
    """What there is at the inputs."""

    shards: list[FileInfo]  # each once, ordered by URL
    left_out: list[str]  # URLs of files that may hold data, but are of no kind that is read; in order


def list_shards(inputs: Sequence[str], index: str | None = None) -> list[FileInfo]:
    """Return the shards at the input URLs, as `list_inputs` finds them."""
    return list_inputs(inputs, index).shards


def list_inputs(inputs: Sequence[str], index: str | None = None) -> Listing:
    """Return the JSONL and Parquet files at the input URLs (files, folders or globs), and what is left out.

    One listing an input.  Of several links to a file on a disk the first counts.  Files of other kinds
    inside a folder are no shards; those that may hold data are left out by name, as are links to nothing,
    while images, words about the data and checksums are passed over.  So are the files of an index: of the
    one at the URL ``index``, which may be written now, and of any other whole one.

    Raises:
        CorpusError: an input holds no shard at all, so that a wrong folder is never an empty corpus, or it
            holds ``.json`` files, which may be shards to their owner.
        StorageError: a link whose name is that of a shard leads to nothing.
    """
    shards: dict[str, FileInfo] = {}
    left_out: set[str] = set()
    for url in inputs:
        listed = list_files(url, dangling=True)
        outside = _outside_indexes(listed, index)
        files = [file for file in outside if file.etag != DANGLING]
        links = [file.url for file in outside if file.etag == DANGLING and _may_be_data(file.url)]
        if lost := next((link for link in links if link.lower().endswith(SUFFIXES)), None):
            raise link_to_nothing(lost)
        left_out |= {f"{link} ({DANGLING})" for link in links}
        if listed and not outside:
            raise CorpusError(f"shards at {url}", "the files of an index", "check --input and --index")
        found = {file.url: file for file in files if file.url.lower().endswith(SUFFIXES)}
        if not found:
            others = f"{pluralize(len(files), 'other file')}, such as {files[0].url}" if files else "no file"
            hint = "check --input"
            if len(files) == 1 and files[0].url == url:
                others, hint = "a file with another suffix", "rename or convert it"
            raise CorpusError(
                f"shards ({', '.join('*' + suffix for suffix in SUFFIXES)}) at {url}", others, hint
            )
        if unread := [file.url for file in files if file.url.lower().endswith(NOT_READ)]:
            raise CorpusError(
                f"shards alone ({', '.join('*' + suffix for suffix in SUFFIXES)}) at {url}",
                f"{pluralize(len(unread), 'other')}, such as {unread[0]}",
                "write them as one of these, or name the shards to read by a glob",
            )
        shards |= found
        left_out |= {file.url for file in files if file.url not in found and _may_be_data(file.url)}
    return Listing(list(_each_once([shards[url] for url in sorted(shards)])), sorted(left_out))


_BESIDE_VERSIONS = (MANIFEST, "passed.json")  # shards may lie in the folder of an index, too


def _outside_indexes(files: Sequence[FileInfo], index: str | None) -> list[FileInfo]:
    """Those of ``files`` that belong to no index: it holds a manifest and versions side by side."""
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
    name = basename(url).lower()
    return not (name.endswith(NOT_DATA) or name.split(".")[0] in _NOT_DATA_NAMES)


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


def merged_stems(shards: Sequence[FileInfo]) -> list[str]:
    """Return the file stems that occur in several folders, in order: there each is one source."""
    folders: dict[str, set[str]] = defaultdict(set)
    for shard in shards:
        folders[file_stem(shard.url)].add(shard.url.rsplit("/", 1)[0])
    return sorted(stem for stem, found in folders.items() if len(found) > 1)
