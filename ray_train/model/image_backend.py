"""Which library makes the pixels: PIL, the same on every machine, or torchvision.

Theirs differ, so a model is evaluated with the library that it was trained with.
"""

from importlib import import_module
from typing import Any

import torch

from bisieve.errors import TrainingError


def load_image_processor(path: str, source: str, backend: str) -> Any:
    """The image processor in the folder or hub id ``path``, which ``source`` names in errors.

    `TrainingError` where it, or this machine, lacks ``backend``: transformers would take another one.
    """
    if backend == "torchvision":
        _require_torchvision()
    try:
        found = _loaded(path, backend)
    except ValueError as error:
        if "torchvision: " not in str(error):  # the classes it has found, each behind its library
            raise
        has = "torchvision"
    else:
        has = str(found.backend)
    if has != backend:
        raise TrainingError(
            f"an image processor with {backend} at {source}",
            f"one with {has} alone",
            f"use --image-backend {has}",
        )
    return found


def _loaded(path: str, backend: str) -> Any:
    transformers: Any = import_module("transformers")
    return transformers.AutoImageProcessor.from_pretrained(path, backend=backend, trust_remote_code=False)


def _require_torchvision() -> None:
    try:
        import_module("torchvision")
    except Exception as error:  # missing, or made for another torch: then it raises what it likes
        raise TrainingError(
            "torchvision, since the images are its, with --image-backend or as the model was trained",
            str(error),
            f"install the one for torch {torch.__version__}; a new run may use --image-backend pil instead",
        ) from error
