"""The manifest: the small JSON file that names the current version of an index and its format version.

All other files of a version are in a folder named by its fingerprint, so a reader of the manifest sees one
whole version.  The same shards and parameters give the same fingerprint and the same bytes.

The format version covers all files of an index.  It is raised when an older reader would misread new files.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from operator import attrgetter

import msgspec

from bisieve._text import pluralize
from bisieve.errors import IndexUnusableError
from bisieve.events import EventSink, null_sink
from bisieve.io.conditional import Pointer, replace_pointer
from bisieve.io.storage import FileInfo, local_names, read_bytes, write_bytes
from bisieve.io.urls import join
from bisieve.records.options import Parameters
from bisieve.schemas import MANIFEST

FORMAT = "bisieve-index"
FORMAT_VERSION = 1
# Version of the rules by which records become rows.  It is raised when the same shards and parameters give
# other rows or rejects: an older index then stays readable, but the next run scans all shards again.
ROWS_VERSION = 1

VERSIONS, PASSED = "versions", "passed.json"  # the other names in the folder of an index

OCCUPIED_NAMED = 100  # most names in an event

ELSEWHERE = "score the corpus into another --index"  # hint of the errors below


class _Head(msgspec.Struct):
    """The first two fields of a manifest, the same in all format versions."""

    format: str
    format_version: int


def check_format(data: bytes, url: str) -> None:
    """Raise `IndexUnusableError` unless ``data``, read at ``url``, is a manifest of `FORMAT_VERSION`."""
    try:
        head = msgspec.json.decode(data, type=_Head)
    except msgspec.ValidationError as error:
        raise no_manifest(url, f"other content: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IndexUnusableError(
            f"a manifest at {url}",
            "a file that is truncated or not JSON",
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
    """Return the error for a file at ``url`` that is not a manifest of this format."""
    expected = f"a manifest of {FORMAT} version {FORMAT_VERSION} at {url}"
    return IndexUnusableError(expected, found, ELSEWHERE)


@dataclass(frozen=True)
class DataFile:
    """One Parquet file of a version."""

    path: str  # relative to the URL of the index
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class CutoffScore:
    """The score at which a selection over all sources ends."""

    fraction: float
    rollouts: int  # selected
    bis: float  # of the last selected rollout


@dataclass(frozen=True)
class Manifest:
    """Content of a manifest: one version of an index.  Lists that can be long are in three Parquet files."""

    fingerprint: str  # hex, of `ROWS_VERSION`, parameters and shards
    parameters: Parameters
    inputs: list[str]  # URLs of files, folders or globs that were listed
    rollouts: int  # number of usable rollouts
    rejected: dict[str, int]  # number of rejects by reason
    examples: dict[str, str]  # by reason, the place of the first reject, "shard@offset"
    shard_bytes: int  # size of all shards
    file_bytes: int  # size of all files of ranked rows and of rejects
    shards: DataFile  # list of shards, `schemas.SHARDS`
    sources: DataFile  # list of sources by name, `schemas.SOURCES`
    files: DataFile  # list of data files, `schemas.FILES`: ranked rows in order, rejects by shard and offset
    software: dict[str, str]  # versions of the packages that determine the bytes
    rows_version: int  # `ROWS_VERSION` of the run that scanned the shards
    cutoff_scores: list[CutoffScore] = field(default_factory=list)  # by fraction; [] with scope=source
    files_left_out: int = 0  # files at the inputs that may hold data, but of a kind that is not read
    left_out: list[str] = field(default_factory=list)  # URLs of the first of them

    @property
    def lists(self) -> tuple[DataFile, ...]:
        """Return the three Parquet files that list shards, sources and data files."""
        return self.shards, self.sources, self.files

    def to_json(self) -> bytes:
        """Return the manifest as the bytes of its file."""
        head = {"format": FORMAT, "format_version": FORMAT_VERSION}
        return msgspec.json.format(msgspec.json.encode({**head, **asdict(self)}), indent=1) + b"\n"

    @staticmethod
    def from_json(data: bytes, url: str) -> "Manifest":
        """Decode a manifest read at ``url``; raise `IndexUnusableError` if it is none of `FORMAT_VERSION`."""
        check_format(data, url)
        try:
            return msgspec.json.decode(data, type=Manifest)
        except (msgspec.ValidationError, UnicodeDecodeError) as error:
            raise no_manifest(url, f"other fields: {error}") from error


def fingerprint(parameters: Parameters, shards: Sequence[FileInfo], rows_version: int = ROWS_VERSION) -> str:
    """Return the fingerprint of an index version: a SHA-256 hash, 64 hex digits.

    It covers ``rows_version``, the parameters, and URL, size and etag of each shard.
    """
    digest = hashlib.sha256()
    digest.update(json.dumps([rows_version, parameters.decisive()], sort_keys=True).encode())
    for shard in sorted(shards, key=attrgetter("url")):
        digest.update(json.dumps([shard.url, shard.size, shard.etag]).encode() + b"\n")
    return digest.hexdigest()


def is_up_to_date(manifest: Manifest, parameters: Parameters, shards: Sequence[FileInfo]) -> bool:
    """Return whether scoring ``shards`` with ``parameters`` would give the rows that the index has."""
    return manifest.rows_version == ROWS_VERSION and manifest.fingerprint == fingerprint(parameters, shards)


def version_folder(fingerprint: str) -> str:
    """Return the folder of a version, relative to the URL of the index."""
    return f"{VERSIONS}/{fingerprint[:16]}"


def version_manifest(fingerprint: str) -> str:
    """Return the path of a version's own copy of its manifest, relative to the URL of the index."""
    return f"{version_folder(fingerprint)}/{MANIFEST}"


def read_manifest(index_url: str) -> Manifest:
    """Read the current manifest of an index.

    Raises:
        StorageError: There is none, or it cannot be read.
        IndexUnusableError: It is not a manifest of `FORMAT_VERSION`.
    """
    url = join(index_url, MANIFEST)
    return Manifest.from_json(read_bytes(url), url)


def publish(current: Pointer, index_url: str, manifest: Manifest, emit: EventSink = null_sink) -> None:
    """Make a version the current one by replacing the manifest (compare-and-swap).

    First a copy of the manifest is written into the version's folder.

    Args:
        current: The index's manifest as it was when the run began.
        index_url: URL of the index.
        manifest: Of a version whose other files are written already.
        emit: Gets the events ``written`` and ``published``.

    Raises:
        StorageError: Another run has published since, or the manifest cannot be written.
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


def say_occupied(index_url: str, emit: EventSink) -> None:
    """Emit a warning if the folder of a new index, on a local disk, has files of something else."""
    if names := [name for name in local_names(index_url) if name not in (VERSIONS, PASSED)]:
        found = f"{names[0]}" + (f" and {pluralize(len(names) - 1, 'other')}" if len(names) > 1 else "")
        emit(
            "occupied",
            f"warning: {index_url} also holds {found}, not of an index; the index is written beside",
            names=names[:OCCUPIED_NAMED],
        )
