"""Check safetensors files by their headers: quantization, and whether head and embeddings are tied.

transformers ties the language head to the embeddings if ``tie_word_embeddings`` is true, also after a resize.
InternVL's config class sets it to true when config.json does not have it, and a separate head would be lost.
Therefore `set_tie` sets the flag by what the files contain.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from bisieve.errors import TrainingError
from bisieve.io import storage
from bisieve.io.read import read_ranges
from bisieve.io.urls import basename, canonical, join
from ray_train.model.sources import EVERY, PIECE, WEIGHTS

_HEAD, _EMBEDDINGS = "lm_head.weight", "embed_tokens.weight"
_ONE_FILE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PLAIN_DTYPES = {"F64", "F32", "F16", "BF16"}


class Stored(NamedTuple):
    """The place, dtype and shape of a tensor in the files of a checkpoint."""

    url: str
    start: int  # byte offset in the file
    end: int  # byte offset after its last byte
    dtype: str  # as safetensors names it, such as BF16
    shape: tuple[int, ...]


def stored_tensors(folder: str) -> dict[str, Stored]:
    """Return where each tensor of the checkpoint at a path or URL is stored, by its name in the files.

    Reads only the headers. Empty if the folder has no safetensors files.

    Raises:
        ValueError: a file is damaged.
        TrainingError: a file that the weights' index names is missing.
        StorageError: the store fails.
    """
    found: dict[str, Stored] = {}
    for file in _weight_files(folder):
        found |= _header(file)
    return found


def set_tie(config: Any, tensors: dict[str, Stored]) -> None:
    """Set ``tie_word_embeddings`` of ``config`` and of its text config by what the files contain.

    Head and embeddings are tied if no head is stored, or if the config says so and the stored head equals the
    embeddings. Without any ``tensors`` the config does not change.
    """
    if not tensors:
        return
    head, embeddings = (_ending(tensors, name) for name in (_HEAD, _EMBEDDINGS))
    tied = head is None or (bool(config.tie_word_embeddings) and _seem_equal(head, embeddings))
    record_tie(config, tied)


def record_tie(config: Any, tied: bool) -> None:
    """Set ``tie_word_embeddings`` of ``config`` and of its text config to ``tied``."""
    config.tie_word_embeddings = tied
    config.get_text_config().tie_word_embeddings = tied


def refuse_quantized(tensors: dict[str, Stored], source: str) -> None:
    """Raise `TrainingError` if a weight is not in F64, F32, F16 or BF16: casting quantized ones is wrong.

    Only tensors whose names end with "weight" are checked. ``source`` is what the user named, for the error.
    """
    others = sorted(name for name, tensor in tensors.items() if tensor.dtype not in _PLAIN_DTYPES)
    weights = [name for name in others if name.endswith("weight")]
    if weights:
        raise TrainingError(
            f"weights in bf16, fp16 or fp32 at {source}",
            f"{weights[0]} in {tensors[weights[0]].dtype}",
            "choose the checkpoint that is not quantized",
        )


def _weight_files(folder: str) -> Iterator[storage.FileInfo]:
    """Yield the files that transformers loads: ``model.safetensors``, else those in the index file."""
    root = canonical(folder)
    files = {basename(file.url): file for file in storage.list_files(root)}
    files = {name: file for name, file in files.items() if file.url == join(root, name)}
    if _ONE_FILE in files:
        yield files[_ONE_FILE]
    elif _INDEX in files:
        try:
            names = set(json.loads(storage.read_bytes(files[_INDEX].url))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(files[_INDEX].url) from error
        if missing := sorted(names - files.keys()):
            raise TrainingError(
                f"the weights that {_INDEX} names, all of them, at {folder}",
                f"no {missing[0]}",
                "copy the folder again, or choose another checkpoint",
            )
        yield from (files[name] for name in sorted(names))


def _header(file: storage.FileInfo) -> dict[str, Stored]:
    if file.size < 8:
        raise _damaged(file.url)
    start = 8 + int.from_bytes(read_ranges(file.url, [0], [8])[0], "little")
    if start > file.size:
        raise _damaged(file.url)
    try:
        header = json.loads(read_ranges(file.url, [8], [start])[0])
        header.pop("__metadata__", None)
        found = {}
        for name, one in header.items():
            first, last = one["data_offsets"]
            found[name] = Stored(file.url, start + first, start + last, one["dtype"], tuple(one["shape"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(file.url) from error
    if found and max(one.end for one in found.values()) > file.size:
        raise _damaged(file.url)
    return found


def _damaged(url: str) -> ValueError:
    return ValueError(f"{basename(url)} is damaged, or cut off")


def _ending(tensors: dict[str, Stored], name: str) -> Stored | None:
    """Return the tensor whose name is ``name`` after any prefix."""
    return next((tensors[key] for key in sorted(tensors) if f".{key}".endswith(f".{name}")), None)


def _seem_equal(one: Stored, other: Stored | None) -> bool:
    """Return whether both have the same dtype, shape and sampled pieces.

    Different tensors mostly differ in the first piece, so all pieces are seldom read. transformers itself
    compares the whole tensors before it ties them.
    """
    if other is None or (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    length = one.end - one.start
    offsets = range(0, length, EVERY)
    return all(_pieces(one, some) == _pieces(other, some) for some in (offsets[:1], offsets[1:]))


def _pieces(tensor: Stored, offsets: range) -> list[bytes]:
    starts = [tensor.start + offset for offset in offsets]
    return read_ranges(tensor.url, starts, [min(start + PIECE, tensor.end) for start in starts])


def check_weights(source: str, flag: str) -> None:
    """Raise `TrainingError` unless the model at ``source`` has readable, unquantized safetensors weights.

    Args:
        source: a URL; a hub id is not checked, since only the workers download its files.
        flag: the option that named it, for the error.
    """
    if "://" not in source:
        return
    try:
        tensors = stored_tensors(source)
    except ValueError as error:
        raise TrainingError(
            f"weights as {WEIGHTS} at {source}", str(error), f"copy the model again, or check {flag}"
        ) from error
    if not tensors:
        raise TrainingError(
            f"weights as {WEIGHTS} at {source}",
            "none of these, and pickled ones (.bin) are not read",
            f"check {flag}",
        )
    refuse_quantized(tensors, source)
