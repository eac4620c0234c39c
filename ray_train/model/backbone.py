"""Load a vision-language backbone and its processor, add the marker token, and freeze what is not trained.

    source ──local_copy──▶ folder ──load_processor──▶ config, family, processor ──load_backbone──▶ Backbone

PIL and torchvision compute different pixels, so a model is evaluated with the image library that it was
trained with.
"""

import gc
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from bisieve._text import one_line, pluralize
from bisieve.errors import BisieveError, TrainingError
from bisieve.records.prompt import MARKER
from ray_train.model.families import Family, family_of
from ray_train.model.files import (
    TOKENIZERS,
    WEIGHTS,
    local_copy,
    record_tie,
    refuse_quantized,
    set_tie,
    stored_tensors,
)
from ray_train.model.vision_attention import join_runs

# Only data is read from a model folder: its code is not run, and pickles, which can run code, are not opened.
NO_CODE = {"trust_remote_code": False}
_LOADING_PROBLEMS = {
    "missing_keys": "missing",
    "unexpected_keys": "that the model does not have",
    "mismatched_keys": "whose shape differs from config.json",
    "error_msgs": "that could not be loaded",
}


@dataclass(frozen=True)
class Backbone:
    """A vision-language model, its processor and its family."""

    model: Any  # a Hugging Face …ForConditionalGeneration
    processor: Any  # text and PIL images -> tensors
    family: Family
    folder: str = ""  # local folder that its weights were loaded from; empty: it has no weights
    note: str = ""  # what an estimate had to assume about it

    def token_id(self, token: str, remedy: str = "choose another backbone") -> int:
        """Return the id of ``token``, a text that must be one token.

        The vocabulary is searched first, as in the paper's code: a tokenizer may put a space before a word
        that is encoded alone.

        Raises:
            TrainingError: it is not one token; ``remedy`` is the hint of the error.
        """
        tokenizer = self.processor.tokenizer
        found = tokenizer.convert_tokens_to_ids(token)
        if found is not None and found != tokenizer.unk_token_id:
            return int(found)
        ids = tokenizer.encode(token, add_special_tokens=False)
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            pieces = ", ".join(map(repr, tokenizer.convert_ids_to_tokens(ids)))
            raise TrainingError(
                f"a tokenizer in which {token!r} is one token",
                f"no such token, and as text {pluralize(len(ids), 'token')} ({pieces})",
                remedy,
            )
        return int(ids[0])


def load_backbone(
    source: str, dtype: torch.dtype, image_backend: str = "pil", marker: str = MARKER
) -> Backbone:
    """Load a backbone with its weights, and add the marker to it.

    Args:
        source: hub id, folder or URL.
        dtype: of all weights.
        image_backend: library that computes the pixels, ``pil`` or ``torchvision``; never substituted.
        marker: token at which rewards are read. Only bisieve's own marker is added: any other one must be
            known to the model, which was trained to judge at it.

    Raises:
        TrainingError: there is no model of a known family, its files are incomplete, damaged or quantized, or
            the image processor or this machine lacks ``image_backend``.
        StorageError: the store of ``source`` fails.
        DiskError: this machine has no room for a copy.
    """
    # transformers' own annotations are partial and, for the Auto classes, wrong.
    transformers: Any = import_module("transformers")
    transformers.utils.logging.disable_progress_bar()
    path = local_copy(source)
    try:
        config, family, processor = load_processor(path, source, image_backend)
        tensors = stored_tensors(path)
        refuse_quantized(tensors, source)
        set_tie(config, tensors)
        model, report = transformers.AutoModelForImageTextToText.from_pretrained(
            path, config=config, dtype=dtype, output_loading_info=True, use_safetensors=True,
            ignore_mismatched_sizes=True, **NO_CODE,
        )  # fmt: skip
    except BisieveError:
        raise
    except Exception as error:  # transformers, tokenizers and safetensors raise any type
        reason = one_line(error)
        found = f"{_place(path, reason)}{reason}"
        raise TrainingError(
            f"a vision-language model at {source}", found, "check --backbone or --model"
        ) from error
    _check_loaded(model, report, dtype, source)
    record_tie(model.config, model.get_output_embeddings().weight is model.get_input_embeddings().weight)
    if marker == MARKER:
        add_marker(model, processor.tokenizer)
    if family.vision_runs:
        join_runs(model)
    return Backbone(model, processor, family, path)


def load_processor(path: str, source: str, image_backend: str) -> tuple[Any, Family, Any]:
    """Return config, family and processor of a backbone, without reading weights.

    Args:
        path: folder or hub id.
        source: what the user named, for errors.
        image_backend: library that computes the pixels.
    """
    transformers: Any = import_module("transformers")
    config = transformers.AutoConfig.from_pretrained(path, **NO_CODE)
    family = family_of(config.model_type)
    images = load_image_processor(path, source, image_backend)
    with _no_garbage_collection():  # a vocabulary is millions of objects: searching them doubles the time
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, **NO_CODE)
    options = family.processor_options(config)
    return config, family, make_processor(family.processor, images, tokenizer, options)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def load_image_processor(path: str, source: str, backend: str) -> Any:
    """Return the image processor of a backbone.

    Args:
        path: folder or hub id.
        source: what the user named, for errors.
        backend: library that computes the pixels, ``pil`` or ``torchvision``.

    Raises:
        TrainingError: the processor has no version for ``backend``, or this machine lacks torchvision;
            transformers would silently use another backend.
    """
    if backend == "torchvision":
        _require_torchvision()
    try:
        found = _loaded(path, backend)
    except ValueError as error:
        if "torchvision: " not in str(error):  # a list of the classes found, each after its library
            raise
        has = "torchvision"
    else:
        has = str(found.backend)
    if has != backend:
        raise TrainingError(
            f"an image processor with {backend} at {source}",
            f"one with {has} only",
            f"use --image-backend {has}",
        )
    return found


def _loaded(path: str, backend: str) -> Any:
    transformers: Any = import_module("transformers")
    return transformers.AutoImageProcessor.from_pretrained(path, backend=backend, **NO_CODE)


def _require_torchvision() -> None:
    try:
        import_module("torchvision")
    except Exception as error:  # missing, or built for another torch, which raises any type
        raise TrainingError(
            "torchvision, which --image-backend or the model's card asks for",
            str(error),
            f"install the one for torch {torch.__version__}; a new run may use --image-backend pil instead",
        ) from error


def make_processor(name: str, images: Any, tokenizer: Any, options: dict[str, Any]) -> Any:
    """Return a processor of the transformers class ``name`` for text and images only; it can be pickled.

    Args:
        name: class in transformers.
        images: image processor.
        tokenizer: of the backbone.
        options: further arguments of the class.
    """
    kind = getattr(import_module("transformers"), name)
    members = {
        # The processors of transformers also require a video processor, and that requires torchvision.
        "get_attributes": classmethod(lambda cls: ["image_processor", "tokenizer"]),
        "__reduce__": lambda self: (make_processor, (name, self.image_processor, self.tokenizer, options)),
    }
    return type(kind.__name__, (kind,), members)(image_processor=images, tokenizer=tokenizer, **options)


def _place(path: str, reason: str) -> str:
    """Return which file is missing or damaged, to go before ``reason``; empty if it says so or for others."""
    from safetensors import SafetensorError, safe_open

    files = sorted(Path(path).glob(f"*{WEIGHTS}"))
    if not files:
        return f"no weights as {WEIGHTS}, and pickled ones (.bin) are not read: "
    for file in files:
        try:
            with safe_open(str(file), "np"):
                pass
        except (SafetensorError, OSError):
            return "" if file.name in reason else f"{file.name} that is damaged: "
    if not any(Path(path, name).is_file() for name in TOKENIZERS):
        return "no tokenizer.json: "
    return ""


def _check_loaded(model: Any, report: dict[str, Any], dtype: torch.dtype, source: str) -> None:
    """Raise `TrainingError` unless the weights in the files are exactly those of the model, all in ``dtype``.

    ``report`` is the loading report of transformers; keys that the model's class ignores are not in it.
    """
    expected = f"exactly the weights of {model.config.model_type} at {source}"
    for problem, words in _LOADING_PROBLEMS.items():
        if names := report.get(problem):
            found = f"{pluralize(len(names), 'weight')} {words}, such as {min(map(_key, names))}"
            raise TrainingError(expected, found, "copy the folder again, or choose another checkpoint")
    others = [name for name, weight in model.named_parameters() if weight.dtype != dtype]
    if others:
        found = f"{others[0]} in {model.get_parameter(others[0]).dtype}"
        raise TrainingError(f"all weights loaded as {dtype}", found, "choose another checkpoint")


def _key(name: Any) -> str:
    """Return a weight's name from the loading report, with its shapes where transformers reports them."""
    if isinstance(name, str):
        return one_line(name)
    key, *sizes = name
    return f"{key} ({' for '.join(str(tuple(size)) for size in sizes)})"


def add_marker(model: Any, tokenizer: Any) -> None:
    """Add the marker to the tokenizer, the embeddings and the language head, unless it is known already.

    Its row is the mean of the rows of all other tokens. The embeddings are resized only if they have no spare
    row.
    """
    if tokenizer.convert_tokens_to_ids(MARKER) not in (None, tokenizer.unk_token_id):
        return
    used = len(tokenizer)
    tokenizer.add_special_tokens({"extra_special_tokens": [MARKER]}, replace_extra_special_tokens=False)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    row = tokenizer.convert_tokens_to_ids(MARKER)
    with torch.no_grad():
        for layer in {model.get_input_embeddings(), model.get_output_embeddings()}:
            layer.weight[row] = layer.weight[:used].float().mean(0)


def train_only(model: Any, family: Family, parts: Collection[str]) -> None:
    """Make ``parts`` of ``model`` trainable and freeze all others.

    Parts are ``vision``, ``projector`` and ``language``; the paper trains projector and language (App. C).
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(family.part_of(name) in parts)


def resolved_precision(precision: str) -> str:
    """Return ``precision``, with ``"auto"`` resolved: ``"bf16"`` if the GPU here has it, else ``"fp32"``."""
    if precision != "auto":
        return precision
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "fp32"


def training_dtype(precision: str) -> torch.dtype:
    """Return the dtype of the forward pass on this machine: bfloat16 or float32."""
    return torch.bfloat16 if resolved_precision(precision) == "bf16" else torch.float32
