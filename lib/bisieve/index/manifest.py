"""The manifest: the small file that names the current version of an index, and its format.

A format is one number for all files of an index.  It rises when a reader of before would misread what is
written now.

Everything else of a version lies under a folder that its fingerprint names; whoever reads the manifest sees
one whole version.  The same shards and parameters give the same fingerprint and the same bytes.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from operator import attrgetter

import msgspec

from bisieve.errors import IndexUnusableError
from bisieve.events import EventSink, null_sink
from bisieve.io.conditional import Pointer, replace_pointer
from bisieve.io.storage import FileInfo, join, read_bytes, write_bytes
from bisieve.records.options import Parameters
from bisieve.schemas import MANIFEST

FORMAT = "bisieve-index"
FORMAT_VERSION = 1
# How records become rows: it rises when the same shards and parameters give other rows or rejects, so that
# an index of before is scanned again while its readers go on.
ROWS_VERSION = 1

ELSEWHERE = "score the corpus into another --index"  # what helps in any case


class _Head(msgspec.Struct):
    """What every manifest begins with, in all formats."""

    format: str
    format_version: int


def check_format(data: bytes, url: str) -> None:
    """Raise `IndexUnusableError` unless ``data``, read at ``url``, is a manifest of the present format."""
    try:
        head = msgspec.json.decode(data, type=_Head)
    except msgspec.ValidationError as error:
        raise no_manifest(url, f"something else: {error}") from error
    except msgspec.DecodeError as error:
        raise IndexUnusableError(
            f"a manifest at {url}",
            "a file that is cut off or no JSON",
            f"restore it: each versions/FINGERPRINT/{MANIFEST} is a copy of one",
        ) from error
    if head.format != FORMAT:
        raise no_manifest(url, f"format {head.format}")
    if head.format_version != FORMAT_VERSION:
        newer = head.format_version > FORMAT_VERSION
        raise IndexUnusableError(
            f"{FORMAT} version {FORMAT_VERSION} at {url}",
            f"version {head.format_version}",
            "install a newer bisieve" if newer else ELSEWHERE,
        )


def no_manifest(url: str, found: str) -> IndexUnusableError:
    """Return the error for a file at ``url`` that holds something else than a manifest of this format."""
    expected = f"a manifest of {FORMAT} version {FORMAT_VERSION} at {url}"
    return IndexUnusableError(expected, found, ELSEWHERE)


@dataclass(frozen=True)
class DataFile:
    """One Parquet file of a version."""

    path: str  # relative to the index
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class CutoffScore:
    """Where a selection over all sources ends."""

    fraction: float
    rollouts: int  # that it takes
    bis: float  # of the last one that it takes


@dataclass(frozen=True)
class Manifest:
    """One published version of an index; what grows with it lies in the three lists."""

    fingerprint: str  # hex, of `ROWS_VERSION`, parameters and shards
    parameters: Parameters
    inputs: list[str]  # the URLs that were listed
    rollouts: int  # usable ones
    rejected: dict[str, int]  # records, by reason
    examples: dict[str, str]  # for each reason, the first rejected record: shard@offset
    shard_bytes: int  # of all shards
    file_bytes: int  # of all ranked rows and rejects
    shards: DataFile  # a row of schema.SHARDS each
    sources: DataFile  # a row of schema.SOURCES each, in the order of their names
    files: DataFile  # a row of schema.FILES each: ranked rows in order, rejects by shard and offset
    software: dict[str, str]  # versions of what wrote it
    rows_version: int  # the `ROWS_VERSION` of the run that scanned it
    cutoff_scores: list[CutoffScore] = field(default_factory=list)  # by fraction; none with scope=source
    files_left_out: int = 0  # files at the inputs that may hold data, but are of no kind that is read
    left_out: list[str] = field(default_factory=list)  # URLs of the first of them

    @property
    def lists(self) -> tuple[DataFile, ...]:
        """The files that tell what the version holds."""
        return self.shards, self.sources, self.files

    def to_json(self) -> bytes:
        """The file's bytes."""
        head = {"format": FORMAT, "format_version": FORMAT_VERSION}
        return msgspec.json.format(msgspec.json.encode({**head, **asdict(self)}), indent=1) + b"\n"

    @staticmethod
    def from_json(data: bytes, url: str) -> "Manifest":
        """The manifest in ``data``; `IndexUnusableError` where it is none, or of another format version."""
        check_format(data, url)
        try:
            return msgspec.json.decode(data, type=Manifest)
        except msgspec.ValidationError as error:
            raise no_manifest(url, f"other fields: {error}") from error


def fingerprint(parameters: Parameters, shards: Sequence[FileInfo], rows_version: int = ROWS_VERSION) -> str:
    """Names an index by how records became rows, its parameters and its shards (URL, size, etag).

    Returns 64 hex digits.
    """
    digest = hashlib.sha256()
    digest.update(json.dumps([rows_version, asdict(parameters)], sort_keys=True).encode())
    for shard in sorted(shards, key=attrgetter("url")):
        digest.update(json.dumps([shard.url, shard.size, shard.etag]).encode() + b"\n")
    return digest.hexdigest()


def is_up_to_date(manifest: Manifest, parameters: Parameters, shards: Sequence[FileInfo]) -> bool:
    """Whether scoring ``shards`` by ``parameters`` would find the rows that the index has."""
    return manifest.rows_version == ROWS_VERSION and manifest.fingerprint == fingerprint(parameters, shards)


def version_folder(fingerprint: str) -> str:
    """The folder of a version, relative to the index."""
    return f"versions/{fingerprint[:16]}"


def version_manifest(fingerprint: str) -> str:
    """Where a version's own copy of its manifest lies, relative to the index."""
    return f"{version_folder(fingerprint)}/{MANIFEST}"


def read_manifest(index_url: str) -> Manifest:
    """The current manifest; `StorageError` where there is none, `IndexUnusableError` where it is no such."""
    url = join(index_url, MANIFEST)
    return Manifest.from_json(read_bytes(url), url)


def publish(current: Pointer, index_url: str, manifest: Manifest, emit: EventSink = null_sink) -> None:
    """Makes a version the current one; its files must be there already.

    ``current`` is the index's manifest as it was when the run began; `StorageError` when another run has
    published since.
    """
    lists = manifest.lists
    emit(
        "written",
        files=len(lists) + manifest.files.rows,
        bytes=sum(file.bytes for file in lists) + manifest.file_bytes,
    )
    write_bytes(join(index_url, version_manifest(manifest.fingerprint)), manifest.to_json())
    replace_pointer(current, manifest.to_json())
    emit("published", index=index_url, fingerprint=manifest.fingerprint, rollouts=manifest.rollouts)
