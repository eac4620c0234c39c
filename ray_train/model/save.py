"""Publish the trained model as a Hugging Face folder, which becomes visible only when it is complete.

    gather_weights ──▶ publish_model: save_model to a temporary folder ──▶ withdraw the old model ──▶ upload
    model_texts    ──▶   (its page, and the files by which other programs use it)

``config.json`` is uploaded last: without it nothing recognizes the folder as a model.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from bisieve.io import storage
from bisieve.io.disk import passing_folder
from bisieve.io.errors import storage_errors
from bisieve.io.retry import Persistence
from bisieve.io.storage import Progress, no_one, upload
from bisieve.io.urls import basename, join, open_filesystem
from ray_train.model.backbone import Backbone
from ray_train.model.lora import merge_adapters, plain_model
from ray_train.model.metadata import CARD, MODEL
from ray_train.model.model_card import README, model_card
from ray_train.model.prompt_format import format_in
from ray_train.model.reward import KAPPA
from ray_train.model.serving_files import (
    IMAGES,
    VLLM,
    image_processor_file,
    serving_files,
    why_not_served,
    write_texts,
)

Weights = dict[str, torch.Tensor]


def gather_weights(module: torch.nn.Module, rank: int) -> Weights:
    """Return the weights of ``module`` on the CPU, by name; empty on other ranks than 0. A collective.

    Adapters are merged into their matrices. Under ZeRO-3 the ranks gather one parameter at a time.
    """
    from ray_train.compat.deepspeed import import_deepspeed

    zero = import_deepspeed().zero
    weights = {}
    for name, tensor in module.named_parameters():
        with zero.GatheredParameters([tensor]):
            if rank == 0:
                weights[name] = tensor.detach().cpu().clone()
    if rank == 0:
        weights |= {name: tensor.cpu() for name, tensor in module.named_buffers()}
        if _has_adapters(module):
            weights = merge_adapters(module, weights)
    return weights


def _has_adapters(model: Any) -> bool:
    """Return whether ``model`` has adapters by `lora.add_adapters`."""
    return hasattr(model, "peft_config")


def save_model(
    backbone: Backbone, weights: Weights, card: dict[str, Any], folder: Path, kappa: Weights | None = None
) -> None:
    """Write a model into the local ``folder``: weights, config, tokenizer, image processor and card.

    Args:
        backbone: its model gives the config, its processor the tokenizer and image processor.
        weights: of the model without adapters, on the CPU.
        card: the content of ``bisieve.json``.
        folder: an existing folder.
        kappa: weights of the κ head, if there is one.
    """
    model = plain_model(backbone.model) if _has_adapters(backbone.model) else backbone.model
    persistent = model.state_dict().keys()
    model.save_pretrained(folder, state_dict={k: v for k, v in weights.items() if k in persistent})
    backbone.processor.tokenizer.save_pretrained(folder)
    backbone.processor.image_processor.save_pretrained(folder)
    if kappa:
        save_file(kappa, folder / KAPPA)
    (folder / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def model_texts(backbone: Backbone, card: dict[str, Any], name: str) -> dict[str, str]:
    """Return the text files beside a model, by name: its page and the files for other programs.

    Args:
        backbone: as of `save_model`.
        card: the complete content of ``bisieve.json``.
        name: what the page is called.
    """
    format = format_in(card, CARD)
    files = serving_files(backbone, card)
    return {
        **files,
        IMAGES: image_processor_file(backbone, format),
        README: model_card(card, format, backbone.family, name, why_not_served(backbone, format)),
    }


def publish_model(
    backbone: Backbone,
    weights: Weights,
    card: dict[str, Any],
    output: str,
    kappa: Weights | None = None,
    texts: dict[str, str] | None = None,
    budget: float = 0.0,
    progress: Progress = no_one,
) -> None:
    """Save a model locally and upload it to ``output``, after removing a model that is there.

    Args:
        backbone: see `save_model`, as for ``weights``, ``card`` and ``kappa``.
        weights: of the model without adapters, on the CPU.
        card: the content of ``bisieve.json``.
        output: URL of a folder.
        kappa: weights of the κ head, if there is one.
        texts: content of `model_texts`, to replace files of the tokenizer and image processor of these names.
        budget: seconds for retries, over all failed requests together.
        progress: called after each uploaded piece.

    Raises:
        StorageError: the store fails for more than ``budget`` seconds, or with a lasting error.
        DiskError: this machine has no room for the model.
    """
    persistently = Persistence(budget)
    with passing_folder("model") as folder:
        save_model(backbone, weights, card, folder, kappa)
        write_texts(texts or {}, folder)
        progress()
        persistently(lambda: withdraw_model(output))
        for file in sorted(folder.iterdir(), key=lambda file: (file.name == MODEL, file.name)):
            persistently(partial(upload, file, join(output, file.name), progress))


def withdraw_model(output: str) -> None:
    """Remove the model at the URL ``output``, if any: ``config.json`` first, then its card and all weights.

    The files of the next model's weights may have other names, so old ones must not remain.
    """
    if not storage.exists(output):
        return
    fs, path = open_filesystem(output)
    with storage_errors(output):
        files = [basename(file) for file in fs.ls(path, detail=False)]
        weights = [name for name in files if ".safetensors" in name]
        for name in [MODEL, CARD, VLLM, *weights]:  # vllm.yaml: not every model has one
            if name in files:
                fs.rm_file(f"{path}/{name}")
