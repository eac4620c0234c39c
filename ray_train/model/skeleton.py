"""A backbone without its weights: its processor, and a model that has shapes and no memory."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from bisieve.errors import BisieveError, StorageError, TrainingError
from bisieve.io import storage
from bisieve.io.tempdirs import scratch_errors, temporary_folder
from ray_train.model.backbone import NO_CODE, Backbone, add_marker, load_processor, train_only
from ray_train.model.families.base import Family
from ray_train.model.recognize import hub_answers
from ray_train.model.sources import SMALL, cached_copy
from ray_train.model.weight_files import Stored, set_tie, stored_tensors

_PARTS = ("vision", "projector", "language")


def load_skeleton(source: str, trained: list[str], image_backend: str = "pil") -> Backbone:
    """Return the backbone at ``source`` on the meta device, the ``trained`` parts marked as such.

    Of weights the headers are read, and pieces of a head that may be the embeddings.  Where no weights can be
    seen, the config is believed, and the backbone's ``note`` says so.

    Raises:
        TrainingError: config, tokenizer or image processor is not there, or a part of the weights.
    """
    transformers: Any = import_module("transformers")
    with _without_weights(source) as path, _problems_named(source):
        config, family, processor = load_processor(path, source, image_backend)
        tensors = _tensors(source)
        set_tie(config, tensors)
        with torch.device("meta"):
            model = transformers.AutoModelForImageTextToText.from_config(config, **NO_CODE)
    add_marker(model, processor.tokenizer)
    train_only(model, family, trained)
    return Backbone(model, processor, family, note="" if tensors else _unseen(config))


def load_skeleton_processor(
    source: str, image_backend: str = "pil", flag: str = "--backbone"
) -> tuple[Family, Any]:
    """Return the family and the processor of the backbone at ``source``, reading none of its weights.

    `TrainingError`, which names ``flag``, where tokenizer or image processor are not there.
    """
    with _without_weights(source) as path, _problems_named(source, flag):
        _, family, processor = load_processor(path, source, image_backend)
    return family, processor


def parameters(backbone: Backbone, trained: bool = False) -> dict[str, int]:
    """How many parameters each part has, or how many ``trained`` ones, a tied one counted once."""
    counts = dict.fromkeys(_PARTS, 0)
    for name, parameter in backbone.model.named_parameters():
        counts[backbone.family.part_of(name)] += parameter.numel() * (parameter.requires_grad or not trained)
    return counts


def trained_parameters(backbone: Backbone) -> int:
    """How many parameters get gradients."""
    return sum(p.numel() for p in backbone.model.parameters() if p.requires_grad)


def _tensors(source: str) -> dict[str, Stored]:
    """Return where the tensors at ``source`` are: of a hub id on the hub, else in its cache; else none."""
    if "://" in source or Path(source).is_dir():
        return stored_tensors(source)
    if hub_answers():
        with suppress(StorageError):
            return stored_tensors(f"hf://{source}")
    folder = cached_copy(source)
    try:
        return stored_tensors(folder) if folder else {}
    except TrainingError:  # fetched in part: the hub has the others
        return {}


def _unseen(config: Any) -> str:
    head = "the embeddings" if config.tie_word_embeddings else "one of its own"
    return f"weights not seen: the head counts as {head}, as config.json has it"


@contextmanager
def _problems_named(source: str, flag: str = "--backbone") -> Iterator[None]:
    """Turn what transformers and tokenizers raise into a `TrainingError` that names source and flag."""
    try:
        yield
    except BisieveError:
        raise
    except Exception as error:
        found = " ".join(str(error).split())[:300]
        raise TrainingError(
            f"config, tokenizer and image processor at {source}", found, f"check {flag}"
        ) from error


@contextmanager
def _without_weights(source: str) -> Iterator[str]:
    """A folder with the small files of ``source``, gone afterwards where it is a copy; a hub id as it is."""
    if "://" not in source or source.startswith("file://"):
        yield source if "://" not in source else storage.open_filesystem(source)[1]
        return
    with (
        scratch_errors(temporary_folder()),
        tempfile.TemporaryDirectory(prefix="bisieve-skeleton-") as name,
    ):
        for file in storage.list_files(source):
            base = storage.basename(file.url)
            if file.url == storage.join(source, base) and base.endswith(SMALL):
                Path(name, base).write_bytes(storage.read_bytes(file.url))
        yield name
