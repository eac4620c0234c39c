"""The files of a model: get them from a hub id, a folder or a URL, identify them, and check the weights.

    hub id, folder, URL ──local_copy──▶ local folder ──stored_tensors──▶ place, dtype, shape of each tensor
                        └─contents_of─▶ hash of what is loaded

Weights are checked by the headers of safetensors files: quantization, and whether head and embeddings are
tied. transformers ties the language head to the embeddings if ``tie_word_embeddings`` is true, also after a
resize. InternVL's config class sets it to true when config.json does not have it, and a separate head would
be lost. Therefore `set_tie` sets the flag by what the files contain.
"""

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from bisieve import console
from bisieve._text import one_line
from bisieve.errors import DiskError, TrainingError
from bisieve.io import storage
from bisieve.io.disk import cache_folder, locked
from bisieve.io.errors import disk_errors, storage_errors
from bisieve.io.read import read_ranges
from bisieve.io.retry import with_retries
from bisieve.io.urls import basename, canonical, is_reachable, join, open_filesystem

WEIGHTS = ".safetensors"  # the only weight format that is read: others are pickles, which can run code
SMALL = (".json", ".txt", ".jinja", ".model", ".tiktoken")  # files of config, tokenizer and processor
_OF_THE_HUB = {"allow_patterns": [f"*{suffix}" for suffix in (WEIGHTS, *SMALL)], "ignore_patterns": "*/*"}
TOKENIZERS = ("tokenizer.json", "vocab.json", "tokenizer.model")  # one of them is in every model
PIECE, EVERY = 4 * 2**10, 16 * 2**20  # a comparison reads the first PIECE bytes of every EVERY bytes
_HEAD, _EMBEDDINGS = "lm_head.weight", "embed_tokens.weight"
_ONE_FILE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PLAIN_DTYPES = {"F64", "F32", "F16", "BF16"}


def local_copy(source: str) -> str:
    """Return a local folder with the backbone or model at ``source``, downloading it if necessary.

    From a store it is copied once per machine, into ``XDG_CACHE_HOME`` or ``~/.cache``, under a name that
    changes with its files; from the hub it is downloaded by the hub's own library.

    Args:
        source: hub id, folder or URL.

    Raises:
        TrainingError: the hub has no such model, or does not answer and nothing was cached before.
        StorageError: the store fails.
        DiskError: this machine has no room.
    """
    if source.startswith("file://"):
        return open_filesystem(source)[1]
    if "://" not in source:
        return source if Path(source).is_dir() else _from_hub(source)
    files = storage.list_files(source)
    names = "\n".join(f"{file.url} {file.size} {file.etag}" for file in files)
    cache = cache_folder("models")
    target = cache / hashlib.sha256(names.encode()).hexdigest()[:32]
    elsewhere = "set XDG_CACHE_HOME to a folder on another disk"
    # The inner block turns errors of the local disk into a DiskError; all others are the store's.
    with storage_errors(source), disk_errors(cache, elsewhere):
        cache.mkdir(parents=True, exist_ok=True)
        with locked(f"{target}.lock"):  # all ranks of a machine come here at the same time
            if not target.is_dir():
                _download(source, files, target)
    return str(target)


def _from_hub(hub_id: str) -> str:
    hub = hub_library()
    try:
        with disk_errors(hub.constants.HF_HUB_CACHE, "set HF_HUB_CACHE to a folder on another disk"):
            return str(hub.snapshot_download(hub_id, **_OF_THE_HUB))
    except DiskError:
        raise
    except Exception as error:  # the hub's library raises any type
        found = f"no such folder here, and looked up as a hub id: {one_line(error)}"
        raise TrainingError(
            f"a vision-language model at {hub_id}", found, "check --backbone or --model"
        ) from error


def _download(source: str, files: list[storage.FileInfo], target: Path) -> None:
    unfinished = target.with_name(f"{target.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)  # its writer has died: this process holds the lock
    unfinished.mkdir()
    fs, root = open_filesystem(source)
    try:
        for file in files:
            path = open_filesystem(file.url)[1]
            name = path.removeprefix(root.rstrip("/") + "/")
            if "/" not in name:  # subfolders, such as runs/, are not copied
                with_retries(partial(fs.get_file, path, str(unfinished / name)))
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def hub_library() -> Any:
    """Return the module ``huggingface_hub``, which shows its bars only where ours would be shown."""
    hub: Any = import_module("huggingface_hub")
    import_module("huggingface_hub.constants")  # else no attribute of the package
    if console.is_quiet() or not console.has_bars(sys.stderr):
        import_module("huggingface_hub.utils").disable_progress_bars()
    return hub


def hub_answers() -> bool:
    """Return whether the hub may be used and accepts connections.

    Without this check the hub's library would retry for minutes. False with ``HF_HUB_OFFLINE``.
    """
    hub: Any = import_module("huggingface_hub.constants")
    return not hub.HF_HUB_OFFLINE and is_reachable(hub.ENDPOINT)


def cached_copy(hub_id: str) -> str | None:
    """Return the folder of the hub's cache with ``hub_id``, without network access; None if there is none.

    The folder may be incomplete: only some versions of the hub's library detect that.
    """
    hub: Any = import_module("huggingface_hub")
    try:
        return str(hub.snapshot_download(hub_id, local_files_only=True, **_OF_THE_HUB))
    except Exception:  # the hub's library raises any type
        return None


def revision_of(folder: str) -> str | None:
    """Return the hub's commit of the local copy ``folder``, 40 hex digits; None if it is not from the hub."""
    path = Path(folder)
    is_commit = path.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", path.name)
    return path.name if is_commit else None


def contents_of(folder: str) -> str:
    """Return a hash of the files that a model is loaded from, 16 hex digits, independent of their location.

    Files of up to 16 MiB are hashed whole. Of larger ones the size and the first 4 KiB of every 16 MiB are
    hashed: 50 GB are some 3,000 small reads. Training changes nearly all numbers of a matrix, so it changes
    the hash; a change of a few numbers elsewhere is not detected.

    Args:
        folder: path or URL; files in subfolders are ignored.
    """
    import xxhash  # imported here: the benchmark of a step runs with torch and transformers alone

    seen = xxhash.xxh3_128()
    for file in _loaded_files(folder):
        starts = range(0, file.size, EVERY) if file.size > EVERY else range(1)
        piece = PIECE if file.size > EVERY else file.size
        ends = [min(start + piece, file.size) for start in starts]
        seen.update(f"{basename(file.url)}\n{file.size}\n".encode())
        for block in read_ranges(file.url, starts, ends):
            seen.update(block)
    return seen.hexdigest()[:16]


def _loaded_files(folder: str) -> Iterator[storage.FileInfo]:
    root = canonical(folder)
    for file in storage.list_files(root):
        name = basename(file.url)
        if file.url == join(root, name) and name.endswith((WEIGHTS, *SMALL)):
            yield file


def known_as(source: str) -> str:
    """Return how the driver identifies a backbone: a URL by its contents (`contents_of`), a hub id by itself.

    Only the workers download the weights of a hub id, and then identify it by its contents. A local folder is
    a URL here, since configs make it one.
    """
    return contents_of(source) if "://" in source else source


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


def _weight_files(folder: str) -> Iterator[storage.FileInfo]:
    """Yield the files that transformers loads: ``model.safetensors``, else those in the index file."""
    root = canonical(folder)
    every = ((basename(file.url), file) for file in storage.list_files(root))
    files = {name: file for name, file in every if file.url == join(root, name)}  # none of a subfolder
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
    return ValueError(f"{basename(url)} that is damaged or cut off")


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


def record_tie(config: Any, tied: bool) -> None:
    """Set ``tie_word_embeddings`` of ``config`` and of its text config to ``tied``."""
    config.tie_word_embeddings = tied
    config.get_text_config().tie_word_embeddings = tied
