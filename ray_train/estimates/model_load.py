"""What a batch asks of a backbone, in the numbers that `flops` counts with.

images ──patches──▶ vision ──image tokens──▶ projector ──▶ language ◀── text tokens
"""

from dataclasses import dataclass, replace
from math import prod
from typing import Any

from torch import nn

from ray_train.data.encoding import Batch
from ray_train.estimates.flops import Load, Part, causal_pairs, training_flops
from ray_train.model.backbone import Backbone


@dataclass(frozen=True)
class ModelCost:
    """The parts of a backbone and how its attention is laid out."""

    vision: Part
    projector: Part
    language: Part
    layers: int  # of the language model, those that look at all tokens before
    vision_layers: int
    windowed_layers: int  # of the vision encoder, those that look no further than a window
    window: int  # patches along its edge
    patch: tuple[int, int]  # pixels
    image_token_id: int
    sliding_layers: int = 0  # of the language model, those that look no further back than its window
    sliding_window: int = 0  # tokens
    class_tokens: int = 0  # that the vision encoder adds to a tile's patches

    def flops(self, batch: Batch) -> int:
        """Operations of training on ``batch``; 0 for a filler, and nothing for padding."""
        return self.flops_of(batch.inputs) if batch.rows else 0

    def flops_of(self, inputs: dict[str, Any]) -> int:
        """Operations of training on ``inputs``, a batch's, and nothing for padding."""
        tokens, pairs = _text_load(inputs)
        image_tokens = int((inputs["input_ids"] == self.image_token_id).sum())
        return training_flops([
            (self.vision, self._vision_load(inputs)),
            (self.projector, Load(image_tokens)),
            (self.language, Load(tokens, pairs * self.layers + self._sliding_pairs(inputs))),
        ])  # fmt: skip

    def _sliding_pairs(self, inputs: dict[str, Any]) -> int:
        """Pairs over all layers with a window, which read rows alone."""
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
    """The sum of the squares of the lengths of the windows."""
    full, rest = divmod(length, window)
    return full * window**2 + rest**2


def _text_load(inputs: dict[str, Any]) -> tuple[int, int]:
    """Tokens of a batch, without padding, and their pairs in one layer."""
    if (extents := inputs.get("extents")) is None:
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        return sum(lengths), sum(map(causal_pairs, lengths))
    pairs = 0
    for shared, own in extents:
        pairs += causal_pairs(shared) + sum(shared * length + causal_pairs(length) for length in own)
    return sum(extent.length for extent in extents), pairs


def token_counts(batch: Batch) -> tuple[int, int]:
    """Tokens that are trained on, and all that go through the model: with padding and fillers."""
    tokens = _text_load(batch.inputs)[0] if batch.rows else 0
    return tokens, batch.inputs["input_ids"].numel()


def model_cost(backbone: Backbone) -> ModelCost:
    """The cost of ``backbone``, which must not be split over ranks yet."""
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
    """By part the elements of the matrices that a token is multiplied by, and how many of them are trained.

    Of a mixture of experts those count that a token is sent to.
    """
    found = {part: Part(0, 0) for part in ("vision", "projector", "language")}
    head = backbone.model.get_output_embeddings()
    head = getattr(head, "original_module", head)  # what peft has wrapped
    for name, module in backbone.model.named_modules():
        share = _active_share(module, backbone.model.config.text_config)
        for own, weight in module.named_parameters(recurse=False):
            part = backbone.family.part_of(f"{name}.{own}")
            # Gemma's projector multiplies by a matrix that is in no layer of its own.
            is_bare = part == "projector" and weight.ndim == 2
            if (share or is_bare) and weight.ndim >= 2 and module is not head:
                used = round(weight.numel() * (share or 1))
                before = found[part]
                found[part] = Part(before.weights + used, before.trained + used * weight.requires_grad)
    return found


def _active_share(module: nn.Module, text: Any) -> float:
    """Which share of the matrices of ``module`` a token is multiplied by; 0 for embeddings and the like."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
        return 1.0
    experts = getattr(module, "num_experts", 0)
    is_expert = any(weight.ndim == 3 for weight in module.parameters(recurse=False))
    return text.num_experts_per_tok / experts if experts and is_expert else 0.0
