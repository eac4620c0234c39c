"""The manifest: the one small file that says which version of an index is the current one.

Everything else of a version lies under a folder that its fingerprint names; whoever reads the manifest sees
one whole version.  The same shards and parameters give the same fingerprint and the same bytes.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from operator import attrgetter

import msgspec

from bisieve.events import Tell, silent
from bisieve.index_format import FORMAT, FORMAT_VERSION, ROWS_VERSION, check_format, no_manifest
from bisieve.index_format import MANIFEST as MANIFEST  # who reads one asks for it here
from bisieve.pointer import Pointer, replace_pointer
from bisieve.reading import Reading
from bisieve.storage import FileInfo, join, read_bytes, write_bytes


@dataclass(frozen=True)
class Parameters:
    """What was asked of the scoring run; part of the fingerprint."""

    alpha: float  # of the score, paper §4
    scope: str  # source: ranked inside each source (the paper); global: over all
    ties: str  # file, hash or spread: the order among equal scores
    seed: int  # of ties=hash and of random order
    reading: Reading = field(default_factory=Reading)  # how records are read
    threshold: float = 0.0  # a step is positive when its score exceeds it
    strategy: str = "bis"  # what ranks: one of ranking.STRATEGIES


@dataclass(frozen=True)
class DataFile:
    """One Parquet file of a version."""

    path: str  # relative to the index
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class CutoffScore:
    """Where a cut over all sources ends."""

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


def publish(current: Pointer, index_url: str, manifest: Manifest, tell: Tell = silent) -> None:
    """Makes a version the current one; its files must be there already.

    ``current`` is the index's manifest as it was when the run began; `StorageError` when another run has
    published since.
    """
    lists = manifest.lists
    tell(
        "written",
        files=len(lists) + manifest.files.rows,
        bytes=sum(file.bytes for file in lists) + manifest.file_bytes,
    )
    write_bytes(join(index_url, version_manifest(manifest.fingerprint)), manifest.to_json())
    replace_pointer(current, manifest.to_json())
    tell("published", index=index_url, fingerprint=manifest.fingerprint, rollouts=manifest.rollouts)
