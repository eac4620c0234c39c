"""A vision-language model from a hub id, a folder or a URL, made ready to read a marker."""

import hashlib
import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from bisieve import storage
from bisieve.errors import BisieveError, TrainingError
from bisieve.lock import locked
from bisieve.patience import patiently
from bisieve.prompt import MARKER
from bisieve.wording import counted
from ray_train.model.families import family_of
from ray_train.model.families.family import Family
from ray_train.model.image_backend import load_image_processor


@dataclass(frozen=True)
class Backbone:
    """A model, what turns text and images into its inputs, and the family both belong to."""

    model: Any  # a Hugging Face …ForConditionalGeneration
    processor: Any  # text and PIL images -> tensors
    family: Family

    def token_id(self, token: str) -> int:
        """The id of a text that must be one token; `TrainingError` where it is none or several."""
        ids = self.processor.tokenizer.encode(token, add_special_tokens=False)
        if len(ids) != 1:
            raise TrainingError(
                f"a tokenizer in which {token!r} is one token",
                f"{len(ids)} tokens",
                "choose another backbone",
            )
        return int(ids[0])


def load_backbone(source: str, dtype: torch.dtype, image_backend: str = "pil") -> Backbone:
    """Loads ``source`` and adds the marker; `TrainingError` where it is no backbone that we know.

    Its images are made by ``image_backend``, and never by another library for want of that.
    """
    # transformers' own annotations are partial and, for the Auto classes, wrong.
    transformers: Any = import_module("transformers")
    transformers.utils.logging.disable_progress_bar()
    path = local_copy(source)
    try:
        config, family, processor = load_processor(path, source, image_backend)
        model, report = transformers.AutoModelForImageTextToText.from_pretrained(
            path, dtype=dtype, output_loading_info=True
        )
    except BisieveError:
        raise
    except Exception as error:  # transformers, tokenizers and safetensors raise what they like
        found = f"{_place(path)}{' '.join(str(error).split())[:300]}"
        raise TrainingError(
            f"a vision-language model at {source}", found, "check --backbone or --model"
        ) from error
    if report["missing_keys"]:
        found = (
            f"{counted(len(report['missing_keys']), 'weight')} missing, such as {min(report['missing_keys'])}"
        )
        raise TrainingError(f"all weights of {config.model_type} at {source}", found, "copy the folder again")
    add_marker(model, processor.tokenizer)
    return Backbone(model, processor, family)


def load_processor(path: str, source: str, image_backend: str) -> tuple[Any, Family, Any]:
    """Config, family and processor in a folder or of a hub id: all but the weights.

    ``source`` is where the user has ``path`` from.
    """
    transformers: Any = import_module("transformers")
    config = transformers.AutoConfig.from_pretrained(path)
    family = family_of(config.model_type)
    images = load_image_processor(path, source, image_backend)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    options = family.processor_options(config)
    return config, family, make_processor(family.processor, images, tokenizer, options)


def _place(path: str) -> str:
    """Where the reason of a failed load lies: in a damaged file, or in a name that is no folder's."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_dir():
        return "no such folder here, and looked up as a hub id: "
    for file in sorted(Path(path).glob("*.safetensors")):
        try:
            with safe_open(str(file), "np"):
                pass
        except (SafetensorError, OSError):
            return f"{file.name} that is damaged: "
    return ""


def make_processor(name: str, images: Any, tokenizer: Any, options: dict[str, Any]) -> Any:
    """The processor of transformers called ``name``, for text and images alone; it can be pickled."""
    kind = getattr(import_module("transformers"), name)
    members = {
        # The processors of transformers want a video processor too, and that wants torchvision.
        "get_attributes": classmethod(lambda cls: ["image_processor", "tokenizer"]),
        "__reduce__": lambda self: (make_processor, (name, self.image_processor, self.tokenizer, options)),
    }
    return type(kind.__name__, (kind,), members)(image_processor=images, tokenizer=tokenizer, **options)


def add_marker(model: Any, tokenizer: Any) -> None:
    """Adds the marker to tokenizer and embeddings, its row being the mean of all others; once."""
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
    """All other parts keep their weights; the paper trains projector and language (App. C)."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(family.part_of(name) in parts)


def local_copy(source: str) -> str:
    """A folder for a ``source`` in a store, copied once per machine; other sources as they are."""
    if "://" not in source:
        return source
    if source.startswith("file://"):
        return storage.open_filesystem(source)[1]
    files = storage.list_files(source)
    names = "\n".join(f"{file.url} {file.size} {file.etag}" for file in files)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "bisieve", "models")
    target = cache / hashlib.sha256(names.encode()).hexdigest()[:32]
    cache.mkdir(parents=True, exist_ok=True)
    with locked(f"{target}.lock"):  # the ranks of a machine come all at once
        if not target.is_dir():
            _download(source, files, target)
    return str(target)


def _download(source: str, files: list[storage.FileInfo], target: Path) -> None:
    unfinished = target.with_name(f"{target.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)  # we hold the lock: whoever made it has died
    unfinished.mkdir()
    fs, root = storage.open_filesystem(source)
    try:
        with storage.storage_errors(source):
            for file in files:
                path = storage.open_filesystem(file.url)[1]
                if "/" not in (
                    name := path.removeprefix(root.rstrip("/") + "/")
                ):  # runs/ and the like stay where they are
                    patiently(partial(fs.get_file, path, str(unfinished / name)))
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
