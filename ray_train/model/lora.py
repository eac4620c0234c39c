"""LoRA adapters: train low-rank matrices at the linear layers of the language part, and the marker's row.

    W x + (alpha / rank) · B A x      W [out, in] frozen; A [rank, in] drawn from the seed, B [out, rank] zero

The published model has no adapters: `merge_adapters` adds each (alpha / rank) · B A to its W, and writes the
marker's row into the embeddings.
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from bisieve._text import pluralize
from bisieve.errors import TrainingError
from bisieve.records.prompt import MARKER
from ray_train.config import TrainConfig
from ray_train.model.backbone import Backbone

_NAME = "default"  # peft's name of the only adapter
_WRAPPED = "base_layer."  # prefix that peft adds to the names of what it wraps
_ROW_WRAPPED = f"token_adapter.{_WRAPPED}"
_ADAPTERS = (".lora_A.", ".lora_B.", ".trainable_tokens_")  # parts of the names of the adapters' parameters


def add_adapters(backbone: Backbone, config: TrainConfig) -> None:
    """Freeze the language part of ``backbone`` and add trainable adapters to its linear layers, in place.

    Other parts stay trainable or frozen as they were. The marker's embedding row is trained, too: no
    pretrained model knows the marker, so its row would otherwise stay the mean of all tokens.

    Raises:
        TrainingError: the language part has matrices that are in no linear layer, such as those of experts.
    """
    from peft import LoraConfig
    from peft.tuners.lora import LoraModel

    _refuse_other_layers(backbone)
    model, family = backbone.model, backbone.family
    trained = [
        p for name, p in model.named_parameters() if p.requires_grad and family.part_of(name) != "language"
    ]
    settings = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=list(_linear_layers(backbone)),
        trainable_token_indices=[backbone.token_id(MARKER)],
    )
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)  # equal on all ranks, and when a run is restarted
        LoraModel(model, {_NAME: settings}, _NAME)
    for parameter in trained:
        parameter.requires_grad_(True)


def _linear_layers(backbone: Backbone) -> Iterator[str]:
    model, family = backbone.model, backbone.family
    for name, module in model.named_modules():
        is_linear = isinstance(module, nn.Linear) and module is not model.get_output_embeddings()
        if is_linear and family.part_of(name) == "language":
            yield name


def _refuse_other_layers(backbone: Backbone) -> None:
    """Raise `TrainingError` if the language part has matrices that would get no adapter, so no training."""
    others = [
        f"{name}.{own}"
        for name, module in backbone.model.named_modules()
        if not isinstance(module, nn.Linear | nn.Embedding) and not _is_depthwise(module)
        for own, weight in module.named_parameters(recurse=False)
        if weight.ndim >= 2 and backbone.family.part_of(f"{name}.{own}") == "language"
    ]
    if others:
        raise TrainingError(
            "a language model whose matrices are all linear layers, which --lora-rank needs",
            f"{pluralize(len(others), 'other weight')}, such as {others[0]}",
            "leave out --lora-rank to train the whole language model",
        )


def _is_depthwise(module: nn.Module) -> bool:
    """Return whether ``module`` is a depthwise convolution, as in linear attention, which is no matrix."""
    return isinstance(module, nn.Conv1d) and module.groups == module.in_channels


def merge_adapters(model: Any, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights of a model without adapters, with the adapters of ``model`` merged into them.

    Sums are computed in float32 and rounded once, to the dtype of the matrix.

    Args:
        model: a model with adapters.
        weights: name -> tensor on the CPU, all weights of ``model`` including its adapters. Entries are
            removed as they are merged: host memory may not hold a large model twice.
    """
    settings = model.peft_config[_NAME]
    scale, (marker,) = settings.lora_alpha / settings.r, settings.trainable_token_indices
    plain = {}
    for name in [name for name in weights if not any(part in name for part in _ADAPTERS)]:
        tensor = weights.pop(name)
        path, _, kind = name.rpartition(_WRAPPED)
        if (row := weights.get(f"{path}trainable_tokens_delta.{_NAME}")) is not None:
            tensor[marker] = row[0]
        elif kind == "weight" and (wide := weights.get(f"{path}lora_B.{_NAME}.weight")) is not None:
            narrow = weights[f"{path}lora_A.{_NAME}.weight"]
            tensor = (tensor.float() + scale * (wide.float() @ narrow.float())).to(tensor.dtype)
        plain[name.replace(_ROW_WRAPPED, "").replace(_WRAPPED, "")] = tensor
    return plain


def plain_model(model: Any) -> Any:
    """Return ``model`` as it was before `add_adapters`, on the meta device.

    Its ``save_pretrained`` can save weights that are passed to it.
    """
    config = copy.deepcopy(model.config)
    config._attn_implementation = "eager"  # bisieve's own ones are for loaded models; none is run here
    with torch.device("meta"):
        plain = type(model)(config)
    plain.generation_config = model.generation_config
    return plain
