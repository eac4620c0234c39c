"""LoRA: narrow matrices beside the linear layers of the language part learn, and the marker's row.

    W x + (alpha / rank) · B A x      W [out, in] frozen; A [rank, in] drawn from the seed, B [out, rank] zero

What is published is a plain model: each B A added to its W, the marker's row in its place.
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

_NAME = "default"  # of the one adapter among peft's
_WRAPPED = "base_layer."  # how peft names what it wraps
_ROW_WRAPPED = f"token_adapter.{_WRAPPED}"
_ADAPTERS = (".lora_A.", ".lora_B.", ".trainable_tokens_")  # what a plain model has not


def add_adapters(backbone: Backbone, config: TrainConfig) -> None:
    """Freezes the language part of ``backbone`` and puts adapters beside it; other parts stay as they are.

    Without a trained row the marker, which no pretrained model knows, would keep the mean of all tokens.
    `TrainingError` where some matrices of the language part are in no linear layer, as those of experts are.
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
        torch.manual_seed(config.seed)  # the same on all ranks, and when a run is started again
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
    """Adapters beside a part of the matrices alone would leave the others as they are, in silence."""
    others = [
        f"{name}.{own}"
        for name, module in backbone.model.named_modules()
        if not isinstance(module, nn.Linear | nn.Embedding) and not _is_depthwise(module)
        for own, weight in module.named_parameters(recurse=False)
        if weight.ndim >= 2 and backbone.family.part_of(f"{name}.{own}") == "language"
    ]
    if others:
        raise TrainingError(
            "a language part of linear layers, to put adapters (--lora-rank) beside them",
            f"{pluralize(len(others), 'other weight')}, such as {others[0]}",
            "leave out --lora-rank: then the language part is trained whole",
        )


def _is_depthwise(module: nn.Module) -> bool:
    """Whether ``module`` is a convolution of each channel by itself, as of linear attention: no matrix."""
    return isinstance(module, nn.Conv1d) and module.groups == module.in_channels


def has_adapters(model: Any) -> bool:
    """Whether `add_adapters` was called on ``model``."""
    return hasattr(model, "peft_config")


def merged(model: Any, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of a plain model from all ``weights`` of ``model``, adapters included; on the CPU.

    Sums are formed in float32 and rounded once, to the type of the matrix.  ``weights`` are used up: of a
    large model there is no room for both.
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
    """A model as ``model`` was before it got adapters, without any weights: to save others by."""
    config = copy.deepcopy(model.config)
    config._attn_implementation = "eager"  # ours are known to loaded models alone, and none is run
    with torch.device("meta"):
        plain = type(model)(config)
    plain.generation_config = model.generation_config
    return plain
