"""Count the floating-point operations of a batch, from the sizes of a backbone.

    forward        2 · weights · tokens  +  4 · width · pairs
    backward       the same again, twice for attention, for the gradient of the inputs
                   2 · trained · tokens for the gradient of the weights

A multiplication and an addition are two operations.  ``pairs`` are the query-key pairs that attention lets
through, half of a square where it is causal.  What is computed twice to save memory, padding, norms,
activation functions, the lookup of embeddings and the two rows of the head do not count.  The gradient of the
first inputs of all, such as pixels, does count though nothing computes it: less than 1 % of a real model.

images ──patches──▶ vision ──image tokens──▶ projector ──▶ language ◀── text tokens
"""

from dataclasses import dataclass, replace
from math import prod
from typing import Any

from torch import nn

from ray_train.model.backbone import Backbone
from ray_train.model.batch import Batch

# Dense bfloat16 with float32 sums, as the makers' data sheets give it; a name's words must all be there.
_PEAKS = {
    "GB300": 2.5e15, "B300": 2.25e15, "GB200": 2.5e15, "B200": 2.25e15,
    "H200": 989e12, "H100 NVL": 835e12, "H100 PCIe": 756e12, "H100": 989e12, "H800": 989e12, "H20": 148e12,
    "A100": 312e12, "A800": 312e12, "A40": 149.7e12, "A30": 165e12, "A10G": 70e12, "A10": 125e12,
    "L40S": 362e12, "L40": 181e12, "L4": 121e12,
    "MI325X": 1307e12, "MI300X": 1307e12, "MI250X": 383e12,
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """What one token costs in a part of the model."""

    weights: int  # elements of the matrices that every token goes through
    trained: int  # of these, those whose gradient is computed
    width: int = 0  # heads × size of a head


@dataclass(frozen=True)
class Load:
    """What goes through a part of the model."""

    tokens: int = 0
    pairs: int = 0  # of a query and a key that it sees, over all layers


def forward_flops(part: Part, load: Load) -> int:
    """Operations of the forward pass of ``part``."""
    return 2 * part.weights * load.tokens + 4 * part.width * load.pairs


def training_flops(parts: list[tuple[Part, Load]], checkpointing: bool = False) -> int:
    """Operations of a forward and a backward pass through ``parts``, in the order of the forward pass.

    A frozen part has a backward pass when something before it is trained; what has one has its forward pass
    twice with ``checkpointing``: then it is what is done, not what is needed.
    """
    total, reached = 0, False  # reached: by the gradient, since something here or before is trained
    for part, load in parts:
        reached = reached or part.trained > 0
        total += forward_flops(part, load)
        if reached:
            total += 2 * part.weights * load.tokens + 8 * part.width * load.pairs
            total += forward_flops(part, load) * checkpointing
        total += 2 * part.trained * load.tokens
    return total


def causal_pairs(length: int, window: int = 0) -> int:
    """Return the pairs of a sequence in which a token sees itself and what is before it.

    With ``window`` no more than so many tokens, itself included.
    """
    reach = min(length, window) if window else length
    return reach * (reach + 1) // 2 + (length - reach) * reach


def hours(work: float, devices: int, flops_per_second: float, mfu: float) -> float:
    """Hours for ``work`` operations on ``devices`` that reach ``mfu`` of ``flops_per_second`` each."""
    return work / (devices * flops_per_second * mfu) / 3600


def peak_flops(device_name: str) -> float:
    """Operations a second of a GPU named as `torch.cuda.get_device_name` does; 0 for an unknown one."""
    words = set(device_name.replace("-", " ").split())
    return next((peak for name, peak in _PEAKS.items() if set(name.split()) <= words), 0.0)


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
