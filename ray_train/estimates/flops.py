"""Count the floating-point operations of training on a batch.

    forward        2 · weights · tokens  +  4 · width · pairs
    backward       the same again, twice for attention, for the gradient of the inputs
                   2 · trained · tokens for the gradient of the weights

A multiplication and an addition are two operations. ``pairs`` are the query-key pairs that the attention mask
allows: about half of the square if it is causal. Not counted: recomputation to save memory (unless asked
for), padding, norms, activation functions, the embedding lookup and the two rows of the head. The gradient of
the very first inputs, such as pixels, is counted although it is not computed: less than 1 % of a real model.

images ──patches──▶ vision ──image tokens──▶ projector ──▶ language ◀── text tokens

`model_cost` takes the sizes from a backbone; `peak_flops` is what a device could compute at best.
"""

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import nn

from ray_train.model.backbone import Backbone
from ray_train.model.reward import Batch

# FLOP/s of dense bfloat16 with float32 sums, from the makers' data sheets. A device matches the first entry
# whose words are all in its name.
_PEAKS = {
    "GB300": 2.5e15, "B300": 2.25e15, "GB200": 2.5e15, "B200": 2.25e15,
    "H200": 989e12, "H100 NVL": 835e12, "H100 PCIe": 756e12, "H100": 989e12, "H800": 989e12, "H20": 148e12,
    "A100": 312e12, "A800": 312e12, "A40": 149.7e12, "A30": 165e12, "A10G": 70e12, "A10": 125e12,
    "L40S": 362e12, "L40": 181e12, "L4": 121e12,
    "MI325X": 1307e12, "MI300X": 1307e12, "MI250X": 383e12,
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """The sizes of a part of the model that determine the cost of a token."""

    weights: int  # elements of the matrices that each token is multiplied by
    trained: int  # of these, the elements whose gradient is computed
    width: int = 0  # of attention: number of heads × size of a head


@dataclass(frozen=True)
class Load:
    """The tokens that a part of the model processes."""

    tokens: int = 0
    pairs: int = 0  # query-key pairs that the attention mask allows, summed over all layers


def forward_flops(part: Part, load: Load) -> int:
    """Return the FLOPs of the forward pass of ``part``."""
    return 2 * part.weights * load.tokens + 4 * part.width * load.pairs


def training_flops(parts: list[tuple[Part, Load]], checkpointing: bool = False) -> int:
    """Return the FLOPs of a forward and a backward pass.

    A frozen part has a backward pass if a part before it is trained.

    Args:
        parts: In the order of the forward pass.
        checkpointing: Whether to count the recomputation of gradient checkpointing: a second forward pass of
            each part that has a backward pass. With it the result is the work done, not the work needed.
    """
    total, reached = 0, False  # reached: the gradient gets here, since this part or one before is trained
    for part, load in parts:
        reached = reached or part.trained > 0
        total += forward_flops(part, load)
        if reached:
            total += 2 * part.weights * load.tokens + 8 * part.width * load.pairs
            total += forward_flops(part, load) * checkpointing
        total += 2 * part.trained * load.tokens
    return total


def causal_pairs(length: int, window: int = 0) -> int:
    """Return the query-key pairs of causal attention over ``length`` tokens.

    With a ``window`` above 0 a token sees at most that many tokens, itself included.
    """
    reach = min(length, window) if window else length
    return reach * (reach + 1) // 2 + (length - reach) * reach


def hours(work: float, devices: int, flops_per_second: float, mfu: float) -> float:
    """Return the hours for ``work`` FLOPs on ``devices``, each at ``mfu`` times ``flops_per_second``."""
    return work / (devices * flops_per_second * mfu) / 3600


def peak_flops(device_name: str) -> float:
    """Return the peak FLOP/s of a GPU in bfloat16, by its `torch.cuda.get_device_name`; 0 if unknown."""
    words = set(device_name.replace("-", " ").split())
    return next((peak for name, peak in _PEAKS.items() if set(name.split()) <= words), 0.0)


def peak_of(device: torch.device) -> float:
    """Return the peak FLOP/s of ``device`` in bf16; 0 if it is unknown."""
    return peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else 0.0


@dataclass(frozen=True)
class ModelCost:
    """The parts of a backbone and the layout of its attention."""

    vision: Part
    projector: Part
    language: Part
    layers: int  # layers of the language model with full attention
    vision_layers: int  # all layers of the vision encoder
    windowed_layers: int  # of these, the layers with attention inside windows
    window: int  # patches along the edge of such a window
    patch: tuple[int, int]  # height and width [pixels]
    image_token_id: int
    sliding_layers: int = 0  # layers of the language model with sliding-window attention
    sliding_window: int = 0  # tokens
    class_tokens: int = 0  # tokens that the vision encoder adds to a tile's patches

    def flops(self, batch: Batch) -> int:
        """Return the FLOPs of training on ``batch``, without padding; 0 for a filler."""
        return self.flops_of(batch.inputs) if batch.rows else 0

    def flops_of(self, inputs: dict[str, Any]) -> int:
        """Return the FLOPs of training on ``inputs`` (`Batch.inputs`), without padding."""
        tokens, pairs = _text_load(inputs)
        image_tokens = int((inputs["input_ids"] == self.image_token_id).sum())
        return training_flops([
            (self.vision, self._vision_load(inputs)),
            (self.projector, Load(image_tokens)),
            (self.language, Load(tokens, pairs * self.layers + self._sliding_pairs(inputs))),
        ])  # fmt: skip

    def _sliding_pairs(self, inputs: dict[str, Any]) -> int:
        """Return the pairs over all sliding-window layers; models with such layers read rows, never packs."""
        if not self.sliding_layers:
            return 0
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        return self.sliding_layers * sum(causal_pairs(length, self.sliding_window) for length in lengths)

    def _vision_load(self, inputs: dict[str, Any]) -> Load:
        full_layers = self.vision_layers - self.windowed_layers
        if "image_grid_thw" not in inputs:  # tiles of one size
            tiles, _, height, width = inputs["pixel_values"].shape
            tokens = (height // self.patch[0]) * (width // self.patch[1]) + self.class_tokens
            return Load(tiles * tokens, tiles * tokens**2 * full_layers)
        pairs, grids = 0, inputs["image_grid_thw"].tolist()
        for frames, height, width in grids:
            pairs += frames * (height * width) ** 2 * full_layers
            if self.windowed_layers:
                windows = _squares(height, self.window) * _squares(width, self.window)
                pairs += frames * windows * self.windowed_layers
        return Load(sum(prod(grid) for grid in grids), pairs)


def _squares(length: int, window: int) -> int:
    """Return the sum of the squared lengths of the windows that ``length`` is cut into."""
    full, rest = divmod(length, window)
    return full * window**2 + rest**2


def _text_load(inputs: dict[str, Any]) -> tuple[int, int]:
    """Return the tokens of a batch without padding, and their pairs in one layer of full attention."""
    if (extents := inputs.get("extents")) is None:
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        return sum(lengths), sum(map(causal_pairs, lengths))
    pairs = 0
    for shared, own in extents:
        pairs += causal_pairs(shared) + sum(shared * length + causal_pairs(length) for length in own)
    return sum(extent.length for extent in extents), pairs


def token_counts(batch: Batch) -> tuple[int, int]:
    """Return the trained tokens of ``batch``, and all its tokens including padding and fillers."""
    tokens = _text_load(batch.inputs)[0] if batch.rows else 0
    return tokens, batch.inputs["input_ids"].numel()


def model_cost(backbone: Backbone) -> ModelCost:
    """Return the cost of ``backbone``; call it before ZeRO-3 partitions the parameters."""
    config, weights = backbone.model.config, _weights(backbone)
    text, vision = config.text_config, config.vision_config
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    layers = getattr(vision, "depth", None) or vision.num_hidden_layers
    windowed = layers - len(vision.fullatt_block_indexes) if hasattr(vision, "fullatt_block_indexes") else 0
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    patch = vision.patch_size
    height, width = (patch, patch) if isinstance(patch, int) else patch
    return ModelCost(
        vision=replace(weights["vision"], width=vision.hidden_size),
        projector=weights["projector"],
        language=replace(weights["language"], width=text.num_attention_heads * head),
        layers=kinds.count("full_attention"),
        vision_layers=layers,
        windowed_layers=windowed,
        window=vision.window_size // height if windowed else 0,
        patch=(height, width),
        image_token_id=config.image_token_id,
        sliding_layers=kinds.count("sliding_attention"),
        sliding_window=getattr(text, "sliding_window", None) or 0,
        class_tokens=sum(name.endswith("cls_token") for name, _ in backbone.model.named_parameters()),
    )


def _weights(backbone: Backbone) -> dict[str, Part]:
    """Return the `Part` of each part of the model by name, without attention's width.

    In a mixture of experts the weights of the experts that a token is routed to count.
    """
    found = {part: Part(0, 0) for part in ("vision", "projector", "language")}
    head = backbone.model.get_output_embeddings()
    head = getattr(head, "original_module", head)  # the module that peft has wrapped
    for name, module in backbone.model.named_modules():
        share = _active_share(module, backbone.model.config.text_config)
        for own, weight in module.named_parameters(recurse=False):
            part = backbone.family.part_of(f"{name}.{own}")
            # Gemma's projector multiplies by a bare parameter that is in no linear layer.
            is_bare = part == "projector" and weight.ndim == 2
            if (share or is_bare) and weight.ndim >= 2 and module is not head:
                used = round(weight.numel() * (share or 1))
                before = found[part]
                found[part] = Part(before.weights + used, before.trained + used * weight.requires_grad)
    return found


def _active_share(module: nn.Module, text: Any) -> float:
    """Return the share of the matrices of ``module`` that a token is multiplied by; 0 for embeddings etc."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
        return 1.0
    experts = getattr(module, "num_experts", 0)
    is_expert = any(weight.ndim == 3 for weight in module.parameters(recurse=False))
    return text.num_experts_per_tok / experts if experts and is_expert else 0.0
