"""Load a backbone without its weights: its processor, and a model on the meta device (shapes only)."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from bisieve._text import one_line
from bisieve.errors import BisieveError, StorageError, TrainingError
from bisieve.io import storage
from bisieve.io.disk import scratch_errors, temporary_folder
from bisieve.io.urls import basename, join, open_filesystem
from ray_train.model.backbone import NO_CODE, Backbone, add_marker, load_processor, train_only
from ray_train.model.families import Family
from ray_train.model.files import SMALL, Stored, cached_copy, hub_answers, set_tie, stored_tensors

_PARTS = ("vision", "projector", "language")


def load_skeleton(
    source: str, trained: list[str], image_backend: str = "pil", flag: str = "--backbone"
) -> Backbone:
    """Return the backbone at ``source`` on the meta device, with the marker added.

    Reads the headers of the weight files, and pieces of the head and the embeddings to see whether they are
    tied. If there are no weights to read, the config decides, and the backbone's ``note`` says so.

    Args:
        source: hub id, folder or URL.
        trained: parts that are trainable: ``vision``, ``projector``, ``language``.
        image_backend: library that computes the pixels.
        flag: the option that named it, for errors.

    Raises:
        TrainingError: config, tokenizer, image processor or one of the weight files is missing or damaged.
        StorageError: the store of ``source`` fails.
    """
    transformers: Any = import_module("transformers")
    with _without_weights(source) as path, _problems_named(source, flag):
        config, family, processor = load_processor(path, source, image_backend)
        tensors = _tensors(source)
        set_tie(config, tensors)
        with torch.device("meta"):
            model = transformers.AutoModelForImageTextToText.from_config(config, **NO_CODE)
    add_marker(model, processor.tokenizer)
    train_only(model, family, trained)
    return Backbone(model, processor, family, note="" if tensors else _unread_note(config))


def load_skeleton_processor(
    source: str, image_backend: str = "pil", flag: str = "--backbone"
) -> tuple[Family, Any]:
    """Return the family and the processor of the backbone at ``source``, without reading any weights.

    Raises:
        TrainingError: config, tokenizer or image processor is missing or damaged; names ``flag``.
        StorageError: the store of ``source`` fails.
    """
    with _without_weights(source) as path, _problems_named(source, flag):
        _, family, processor = load_processor(path, source, image_backend)
    return family, processor


def parameters(backbone: Backbone, trained: bool = False) -> dict[str, int]:
    """Return the number of parameters of each part, or only of its trainable ones; tied ones count once."""
    counts = dict.fromkeys(_PARTS, 0)
    for name, parameter in backbone.model.named_parameters():
        counts[backbone.family.part_of(name)] += parameter.numel() * (parameter.requires_grad or not trained)
    return counts


def trained_parameters(backbone: Backbone) -> int:
    """Return the number of trainable parameters of all parts."""
    return sum(p.numel() for p in backbone.model.parameters() if p.requires_grad)


def _tensors(source: str) -> dict[str, Stored]:
    """Return where the tensors of ``source`` are stored; empty if they cannot be read.

    Those of a hub id are looked up on the hub, or in the hub's local cache if the hub cannot be used.
    """
    if "://" in source or Path(source).is_dir():
        return stored_tensors(source)
    if hub_answers():
        with suppress(StorageError):
            return stored_tensors(f"hf://{source}")
    folder = cached_copy(source)
    try:
        return stored_tensors(folder) if folder else {}
    except TrainingError:  # the cache is incomplete
        return {}


def _unread_note(config: Any) -> str:
    head = "is tied to the embeddings" if config.tie_word_embeddings else "has weights of its own"
    return f"weights not read: by config.json the head {head}"


@contextmanager
def _problems_named(source: str, flag: str = "--backbone") -> Iterator[None]:
    """Turn exceptions of transformers and tokenizers into a `TrainingError` that names source and flag."""
    try:
        yield
    except BisieveError:
        raise
    except Exception as error:
        found = one_line(error)
        raise TrainingError(
            f"config, tokenizer and image processor at {source}", found, f"check {flag}"
        ) from error


@contextmanager
def _without_weights(source: str) -> Iterator[str]:
    """Yield a folder with the files of ``source`` other than weights: a local folder or hub id as it is.

    The small files of a store are copied to a temporary folder, which is removed when the block ends.
    """
    if "://" not in source or source.startswith("file://"):
        yield source if "://" not in source else open_filesystem(source)[1]
        return
    with (
        scratch_errors(temporary_folder()),
        tempfile.TemporaryDirectory(prefix="bisieve-skeleton-") as name,
    ):
        for file in storage.list_files(source):
            base = basename(file.url)
            if file.url == join(source, base) and base.endswith(SMALL):
                Path(name, base).write_bytes(storage.read_bytes(file.url))
        yield name
