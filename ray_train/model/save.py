"""The trained model as a Hugging Face folder, visible whole or not at all.

``config.json`` is written last: without it nothing takes the folder for a model.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from bisieve.io import storage
from bisieve.io.errors import storage_errors
from bisieve.io.tempdirs import passing_folder
from bisieve.io.upload import Persistence, Progress, no_one, upload
from ray_train.model.backbone import Backbone
from ray_train.model.lora import has_adapters, merged, plain_model
from ray_train.model.metadata import CARD, MODEL
from ray_train.model.reward import KAPPA

Weights = dict[str, torch.Tensor]


def gathered_weights(module: torch.nn.Module, rank: int) -> Weights:
    """The weights of ``module`` on the CPU, on rank 0; empty elsewhere.  All ranks must come here together.

    Adapters are merged into the weights beside which they learned.  Under ZeRO-3 each parameter is put
    together from the ranks' parts, one at a time.
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
        if has_adapters(module):
            weights = merged(module, weights)
    return weights


def save_model(
    backbone: Backbone, weights: Weights, card: dict[str, Any], folder: Path, kappa: Weights | None = None
) -> None:
    """Writes model, tokenizer, image processor and ``card`` into ``folder``, and ``kappa``, a head's."""
    model = plain_model(backbone.model) if has_adapters(backbone.model) else backbone.model
    persistent = model.state_dict().keys()
    model.save_pretrained(folder, state_dict={k: v for k, v in weights.items() if k in persistent})
    backbone.processor.tokenizer.save_pretrained(folder)
    backbone.processor.image_processor.save_pretrained(folder)
    if kappa:
        save_file(kappa, folder / KAPPA)
    (folder / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def publish_model(
    backbone: Backbone,
    weights: Weights,
    card: dict[str, Any],
    output: str,
    kappa: Weights | None = None,
    budget: float = 0.0,
    progress: Progress = no_one,
) -> None:
    """Saves the model and uploads it to ``output``; a model that lay there is withdrawn first.

    ``progress`` is called as it comes on.  `StorageError` when a store has refused for more than ``budget``
    seconds, all its refusals together; `DiskError` when the model finds no room on this machine.
    """
    persistently = Persistence(budget)
    with passing_folder("model") as folder:
        save_model(backbone, weights, card, folder, kappa)
        progress()
        persistently(lambda: withdraw_model(output))
        for file in sorted(folder.iterdir(), key=lambda file: (file.name == MODEL, file.name)):
            persistently(partial(upload, file, storage.join(output, file.name), progress))


def withdraw_model(output: str) -> None:
    """Makes a model at ``output`` invisible, and takes its weights away: the next ones may lie otherwise."""
    if not storage.exists(output):
        return
    fs, path = storage.open_filesystem(output)
    with storage_errors(output):
        files = [storage.basename(file) for file in fs.ls(path, detail=False)]
        weights = [name for name in files if ".safetensors" in name]
        for name in [MODEL, CARD, *weights]:
            if name in files:
                fs.rm_file(f"{path}/{name}")
