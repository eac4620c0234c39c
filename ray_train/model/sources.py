"""Where a backbone comes from: a hub id, a folder or a URL; and what tells it from all others."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from bisieve.errors import DiskError, TrainingError
from bisieve.io import storage
from bisieve.io.conditional import locked
from bisieve.io.errors import disk_errors, storage_errors
from bisieve.io.read import read_ranges
from bisieve.io.retry import with_retries

WEIGHTS = ".safetensors"  # the one format of weights that is read: others are pickles, which can run code
SMALL = (".json", ".txt", ".jinja", ".model", ".tiktoken")  # what a config and a tokenizer consist of
_OF_THE_HUB = {"allow_patterns": [f"*{suffix}" for suffix in (WEIGHTS, *SMALL)], "ignore_patterns": "*/*"}
PIECE, EVERY = 4 * 2**10, 16 * 2**20  # bytes that are looked at, of as many


def local_copy(source: str) -> str:
    """A folder of this machine with the backbone or model at ``source``.

    What lies in a store is copied once a machine, what lies on the hub is fetched by the hub's own library;
    `TrainingError` where that finds nothing, or does not answer and nothing was fetched before.
    """
    if source.startswith("file://"):
        return storage.open_filesystem(source)[1]
    if "://" not in source:
        return source if Path(source).is_dir() else _from_hub(source)
    files = storage.list_files(source)
    names = "\n".join(f"{file.url} {file.size} {file.etag}" for file in files)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "bisieve", "models")
    target = cache / hashlib.sha256(names.encode()).hexdigest()[:32]
    elsewhere = "set XDG_CACHE_HOME to a folder on another disk"
    # The disk of this machine is asked first what an error is: the store is not to blame for it.
    with storage_errors(source), disk_errors(cache, elsewhere):
        cache.mkdir(parents=True, exist_ok=True)
        with locked(f"{target}.lock"):  # the ranks of a machine come all at once
            if not target.is_dir():
                _download(source, files, target)
    return str(target)


def cached_copy(hub_id: str) -> str | None:
    """Return the folder with what was fetched of ``hub_id`` before, without asking the hub; None without.

    Whether it is all that a model is loaded from, only some versions of the hub's library know.
    """
    hub: Any = import_module("huggingface_hub")
    try:
        return str(hub.snapshot_download(hub_id, local_files_only=True, **_OF_THE_HUB))
    except Exception:  # the hub's library raises what it likes
        return None


def contents_of(folder: str) -> str:
    """Names what a model is loaded from in the folder at a path or URL, wherever it lies.

    Small files are looked at as a whole, and of large ones their size and 4 KiB in every 16 MiB: 50 GB are
    some 3,000 small reads.  Training changes nearly all numbers of a matrix, and so one that is looked at;
    that somebody changes a few others alone is not seen.
    """
    import xxhash  # here, as the benchmark of a step runs where nothing but torch and transformers is

    seen = xxhash.xxh3_128()
    for file in _loaded_files(folder):
        starts = range(0, file.size, EVERY) if file.size > EVERY else range(1)
        piece = PIECE if file.size > EVERY else file.size
        ends = [min(start + piece, file.size) for start in starts]
        seen.update(f"{storage.basename(file.url)}\n{file.size}\n".encode())
        for block in read_ranges(file.url, starts, ends):
            seen.update(block)
    return seen.hexdigest()[:16]


def known_as(source: str) -> str:
    """What a run that is to begin calls its backbone: by its contents, or by a hub id.

    The workers alone fetch the weights of a hub id; they then call it by its contents, too.
    """
    return contents_of(source) if "://" in source else source


def revision_of(folder: str) -> str | None:
    """The commit of the hub that ``folder``, a local copy, holds; None where it is not from there."""
    path = Path(folder)
    is_commit = path.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", path.name)
    return path.name if is_commit else None


def _loaded_files(folder: str) -> Iterator[storage.FileInfo]:
    root = storage.canonical(folder)
    for file in storage.list_files(root):
        name = storage.basename(file.url)
        if file.url == storage.join(root, name) and name.endswith((WEIGHTS, *SMALL)):
            yield file


def _from_hub(hub_id: str) -> str:
    hub: Any = import_module("huggingface_hub")
    try:
        with disk_errors(hub.constants.HF_HUB_CACHE, "set HF_HUB_CACHE to a folder on another disk"):
            return str(hub.snapshot_download(hub_id, **_OF_THE_HUB))
    except DiskError:
        raise
    except Exception as error:  # the hub's library raises what it likes
        found = f"no such folder here, and looked up as a hub id: {' '.join(str(error).split())[:300]}"
        raise TrainingError(
            f"a vision-language model at {hub_id}", found, "check --backbone or --model"
        ) from error


def _download(source: str, files: list[storage.FileInfo], target: Path) -> None:
    unfinished = target.with_name(f"{target.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)  # we hold the lock: whoever made it has died
    unfinished.mkdir()
    fs, root = storage.open_filesystem(source)
    try:
        for file in files:
            path = storage.open_filesystem(file.url)[1]
            name = path.removeprefix(root.rstrip("/") + "/")
            if "/" not in name:  # runs/ and the like stay where they are
                with_retries(partial(fs.get_file, path, str(unfinished / name)))
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
