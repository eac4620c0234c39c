"""Parquet files with the rollouts of a selection and their images, as the Hugging Face hub reads them.

Columns have the names that bisieve reads. They are described in Arrow, in words, and as features of
``datasets``:

`SCHEMA` ─┬─ features ─────▶ metadata of the Parquet files, which say that ``image`` is a list of images
          ├─ card_features ▶ README.md
          └─ MEANINGS ─────▶ README.md, croissant.json
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from bisieve.errors import UsageError
from bisieve.index.selection import Selection
from bisieve.io.errors import storage_errors
from bisieve.io.images import image_bytes, image_url
from bisieve.io.storage import open_output, remove
from bisieve.io.urls import join
from bisieve.records.embedded_images import Picture
from bisieve.records.model import Rollout
from bisieve.shards.fetch import fetch_rollouts, in_chunks
from bisieve.tools.export import in_file_order

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


SCHEMA = pa.schema(
    [
        ("rollout_id", pa.string()),
        ("source", pa.string()),
        ("rank", pa.int64()),
        ("bis", pa.float64()),
        ("question", pa.string()),
        ("image", pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))),
        ("step", pa.list_(pa.string())),
        ("score", pa.list_(pa.float64())),
        ("num_mc_correct", pa.list_(pa.int32())),
        ("num_mc_total", pa.list_(pa.int32())),
        ("label", pa.list_(pa.bool_())),
    ]
)

MEANINGS = {
    "rollout_id": "Id of the rollout: one solution of a question.",
    "source": "Name of the source that the rollout is from.",
    "rank": "Rank in the index, from 1.",
    "bis": "Balanced information score of the rollout.",
    "question": "Text of the question.",
    "image": "Images of the question, in order.",
    "step": "Steps of the solution, in order.",
    "score": "MC score of each step: the share of continuations from it that reach the right answer.",
    "num_mc_correct": "Number of right continuations from each step, if known.",
    "num_mc_total": "Number of continuations from each step, if known.",
    "label": "Whether the MC score of each step is above the threshold.",
}
SPLIT = "train"
DATA = "data"
_ROWS = 64  # of a row group: the hub's viewer reads a whole one to show a row
_FILE_BYTES = 256 * 2**20  # a file is closed when it has more than that
_READERS = 16  # threads that read images


def features() -> dict[str, Any]:
    """Return the features of `SCHEMA` as ``datasets`` writes them into a Parquet file."""
    return {column.name: _feature(column.type) for column in SCHEMA}


def card_features() -> list[dict[str, str]]:
    """Return the features of `SCHEMA` as the header of a data set's README.md has them."""
    found = []
    for column in SCHEMA:
        is_list = pa.types.is_list(column.type)
        kind = column.type.value_type if is_list else column.type
        found.append({"name": column.name, "list" if is_list else "dtype": dtype(kind)})
    return found


def dtype(kind: pa.DataType) -> str:
    """Return the name that ``datasets`` has for a type that is no list; "image" for a struct."""
    return "image" if pa.types.is_struct(kind) else {"double": "float64"}.get(str(kind), str(kind))


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(kind):  # the name before version 4 of datasets; later ones read it as well
        return {"feature": _feature(kind.value_type), "_type": "Sequence"}
    return {"_type": "Image"} if pa.types.is_struct(kind) else {"dtype": dtype(kind), "_type": "Value"}


@dataclass
class Pictures:
    """Images of the rollouts: those inside the records are kept in memory, others are read by name."""

    image_root: str
    _embedded: dict[str, bytes] = field(default_factory=dict)

    def keep(self, pictures: Sequence[Picture]) -> list[str]:
        """Keep images of records; return the names to ask for them (a `Save`)."""
        names = [picture.hashed_name for picture in pictures]
        self._embedded.update(zip(names, (picture.data for picture in pictures), strict=True))
        return names

    def read(self, name: str) -> dict[str, Any]:
        """Return an image as its column has it: the bytes, and a path below the image root.

        Raises:
            UsageError: There is no image root to read it from.
            ImageError: It is outside the image root, or cannot be read.
        """
        if name in self._embedded:
            return {"bytes": self._embedded[name], "path": name}
        if not self.image_root:
            raise UsageError(
                "--image-root FOLDER, as the images are written into the files", f"no folder for {name}",
                "name the folder that the records' images are in",
            )  # fmt: skip
        data = image_bytes(self.image_root, name)
        # A name may be an absolute path, which would tell others of the folders of this machine.
        path = image_url(self.image_root, name).removeprefix(join(self.image_root, ""))
        return {"bytes": data, "path": path}

    def forget(self) -> None:
        """Free the images of records that have been written."""
        self._embedded.clear()


class HashedOutput(io.RawIOBase):
    """Writes to another file, and hashes what is written; it is not read again for that."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest, self._size = file, hashlib.sha256(), 0

    @property
    def sha256(self) -> str:
        """Return the hash of all bytes so far, 64 hex digits."""
        return self._digest.hexdigest()

    def writable(self) -> bool:
        """Return that it can be written to."""
        return True

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write ``data``; return its number of bytes."""
        self._file.write(data)
        self._digest.update(data)
        self._size += memoryview(data).nbytes
        return memoryview(data).nbytes

    def tell(self) -> int:
        """Return the number of bytes so far."""
        return self._size


@dataclass(frozen=True)
class DataFile:
    """A Parquet file that was written."""

    name: str  # relative to the folder
    rows: int
    size: int  # bytes
    sha256: str


def write_parquet(
    selection: Selection, folder: str, image_root: str, wrote: Callable[[int], None]
) -> list[DataFile]:
    """Write the rollouts with their images to ``folder``/data, by (source, rank) in file order.

    If an image cannot be read, the files written so far are deleted. ``wrote`` is called with the number of
    rollouts of each part that is written.

    Raises:
        UsageError: Images are missing an ``image_root``.
        ImageError: An image cannot be read.
        IndexUnusableError: A span does not hold the indexed rollout any more.
        StorageError: A shard cannot be read, or ``folder`` cannot be written.
    """
    schema = SCHEMA.with_metadata({"huggingface": json.dumps({"info": {"features": features()}})})
    tables = _tables(selection, Pictures(image_root))
    files: list[DataFile] = []
    with removed_on_error(folder, files):
        table = next(tables, None)
        while table is not None:
            name, rows = f"{DATA}/{SPLIT}-{len(files):05}.parquet", 0
            with storage_errors(folder), open_output(join(folder, name)) as output:
                file = HashedOutput(output)
                with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                    while table is not None and file.tell() < _FILE_BYTES:
                        writer.write_table(table.cast(schema), row_group_size=_ROWS)
                        rows += table.num_rows
                        wrote(table.num_rows)
                        table = next(tables, None)
            files.append(DataFile(name, rows, file.tell(), file.sha256))
    return files


@contextmanager
def removed_on_error(folder: str, files: Sequence[DataFile], *others: str) -> Iterator[None]:
    """Delete ``files``, and files of the names ``others``, in ``folder`` if the block fails."""
    try:
        yield
    except BaseException:  # Ctrl-C, too: nothing half-written may stay
        remove([join(folder, name) for name in (*(file.name for file in files), *others)])
        raise


def _tables(selection: Selection, pictures: Pictures) -> Iterator[pa.Table]:
    """Yield the selection in tables of `_ROWS` rows, in file order."""
    with ThreadPoolExecutor(_READERS) as pool:
        for chunk in in_chunks(in_file_order(selection.rows)):
            rollouts = fetch_rollouts(chunk, selection.shards, pictures.keep)
            for start in range(0, len(rollouts), _ROWS):
                some = rollouts[start : start + _ROWS]
                names = list(dict.fromkeys(name for rollout in some for name in rollout.images))
                images = dict(zip(names, pool.map(pictures.read, names), strict=True))
                index = chunk.slice(start, _ROWS).select(["source", "rank", "bis"]).to_pylist()
                threshold = selection.parameters.threshold
                rows = [as_row(*pair, images, threshold) for pair in zip(some, index, strict=True)]
                yield pa.Table.from_pylist(rows, SCHEMA)
            pictures.forget()


def as_row(
    rollout: Rollout, index: dict[str, Any], images: dict[str, dict[str, Any]], threshold: float
) -> dict[str, Any]:
    """Return a row of `SCHEMA`.

    Args:
        rollout: The rollout.
        index: Its values of the index: source, rank and bis.
        images: Its images by name, as `Pictures.read` returns them.
        threshold: A step is right if its MC score is greater.
    """
    return {
        **index,
        "rollout_id": rollout.rollout_id,
        "question": rollout.question,
        "image": [images[name] for name in rollout.images],
        "step": rollout.steps,
        "score": rollout.scores,
        "num_mc_correct": rollout.mc_correct,
        "num_mc_total": rollout.mc_total,
        "label": [score > threshold for score in rollout.scores],
    }
