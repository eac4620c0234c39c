"""Get a backbone from a hub id, a folder or a URL, and identify its contents.

`local_copy` returns a local folder; `contents_of` a hash of what is loaded from it.
"""

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from bisieve import console
from bisieve.errors import DiskError, TrainingError
from bisieve.io import storage
from bisieve.io.disk import locked
from bisieve.io.errors import disk_errors, storage_errors
from bisieve.io.read import read_ranges
from bisieve.io.retry import with_retries
from bisieve.io.urls import basename, canonical, join, open_filesystem

WEIGHTS = ".safetensors"  # the only weight format that is read: others are pickles, which can run code
SMALL = (".json", ".txt", ".jinja", ".model", ".tiktoken")  # files of config, tokenizer and processor
_OF_THE_HUB = {"allow_patterns": [f"*{suffix}" for suffix in (WEIGHTS, *SMALL)], "ignore_patterns": "*/*"}
PIECE, EVERY = 4 * 2**10, 16 * 2**20  # a comparison reads the first PIECE bytes of every EVERY bytes


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
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "bisieve", "models")
    target = cache / hashlib.sha256(names.encode()).hexdigest()[:32]
    elsewhere = "set XDG_CACHE_HOME to a folder on another disk"
    # The inner block turns errors of the local disk into a DiskError; all others are the store's.
    with storage_errors(source), disk_errors(cache, elsewhere):
        cache.mkdir(parents=True, exist_ok=True)
        with locked(f"{target}.lock"):  # all ranks of a machine come here at the same time
            if not target.is_dir():
                _download(source, files, target)
    return str(target)


def cached_copy(hub_id: str) -> str | None:
    """Return the folder of the hub's cache with ``hub_id``, without network access; None if there is none.

    The folder may be incomplete: only some versions of the hub's library detect that.
    """
    hub: Any = import_module("huggingface_hub")
    try:
        return str(hub.snapshot_download(hub_id, local_files_only=True, **_OF_THE_HUB))
    except Exception:  # the hub's library raises any type
        return None


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


def known_as(source: str) -> str:
    """Return how the driver identifies a backbone: a URL by its contents (`contents_of`), a hub id by itself.

    Only the workers download the weights of a hub id; they then identify it by its contents, too. A local
    folder is a URL here, since configs make it one.
    """
    return contents_of(source) if "://" in source else source


def revision_of(folder: str) -> str | None:
    """Return the hub's commit of the local copy ``folder``, 40 hex digits; None if it is not from the hub."""
    path = Path(folder)
    is_commit = path.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", path.name)
    return path.name if is_commit else None


def _loaded_files(folder: str) -> Iterator[storage.FileInfo]:
    root = canonical(folder)
    for file in storage.list_files(root):
        name = basename(file.url)
        if file.url == join(root, name) and name.endswith((WEIGHTS, *SMALL)):
            yield file


def hub_library() -> Any:
    """Return the module ``huggingface_hub``, which shows its bars only where ours would be shown."""
    hub: Any = import_module("huggingface_hub")
    import_module("huggingface_hub.constants")  # else no attribute of the package
    if console.is_quiet() or not console.has_bars(sys.stderr):
        import_module("huggingface_hub.utils").disable_progress_bars()
    return hub


def _from_hub(hub_id: str) -> str:
    hub = hub_library()
    try:
        with disk_errors(hub.constants.HF_HUB_CACHE, "set HF_HUB_CACHE to a folder on another disk"):
            return str(hub.snapshot_download(hub_id, **_OF_THE_HUB))
    except DiskError:
        raise
    except Exception as error:  # the hub's library raises any type
        found = f"no such folder here, and looked up as a hub id: {' '.join(str(error).split())[:300]}"
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
