"""Stochastic depth in a vision encoder: in training, a layer's branches are skipped for some tiles.

    hidden + branch(hidden)  →  hidden + kept / (1 − rate) · branch(hidden)      kept is 0 or 1 for each tile

The rate rises linearly from 0 at the first layer to its full value at the last. ``kept`` is drawn by a hash
of the tile's pixels, the seed, the step and the branch. So it is the same on any number of ranks, in packs
and in rows, and when gradient checkpointing computes a layer twice. Rollouts that share an image share its
draws in a step.
"""

from typing import Any

import torch

from bisieve.errors import TrainingError
from ray_train.model.backbone import Backbone
from ray_train.model.families import Family

_BRANCHES = ("attention", "mlp")  # submodules of a layer; the output of each is added to the residual stream
_ODD = (-7046029254386353131, -4658895280553007687, -7723592293110705685)  # SplitMix64's constants


class DropPath:
    """State that the hooks of one vision encoder share; the training loop sets ``step`` before each step."""

    def __init__(self, seed: int) -> None:
        self.seed, self.step = seed, 0
        self.tiles = torch.empty(0, dtype=torch.int64)  # int64 [tiles], hashes of the current tiles

    def read(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Hash the tiles that the encoder is about to read; a forward pre-hook."""
        pixels = kwargs["pixel_values"] if "pixel_values" in kwargs else args[0]
        self.tiles = tile_names(pixels.detach())

    def factors(self, branch: int, rate: float) -> torch.Tensor:
        """Return the factor of a branch's output for each tile, 0 or 1 / (1 − rate); float32 ``[tiles]``.

        ``branch`` is its number over all layers.
        """
        key = _mixed(_mixed(_mixed(self.tiles + self.seed) + self.step) + branch)
        uniform = (key >> 11 & (1 << 53) - 1).double() / 2**53
        return (uniform >= rate).float() / (1 - rate)


def add_drop_path(backbone: Backbone, rate: float, seed: int) -> DropPath:
    """Add hooks that make the vision encoder of ``backbone`` skip branches in training mode.

    Evaluation mode does not change.

    Args:
        backbone: its vision encoder must read tiles, as InternVL's does.
        rate: probability of a skip in the last layer, in [0, 1).
        seed: of the draws.

    Returns:
        The state of the hooks, whose ``step`` the caller must set.

    Raises:
        TrainingError: the family does not read tiles; see `check_drop_path`.
    """
    check_drop_path(backbone.family)
    tower = backbone.model.get_submodule(backbone.family.vision.rstrip("."))
    layers = list(tower.get_submodule(backbone.family.vision_layers))
    drop = DropPath(seed)
    tower.register_forward_pre_hook(drop.read, with_kwargs=True)
    for number, of_layer in enumerate(torch.linspace(0, rate, len(layers)).tolist()):
        for place, name in enumerate(_BRANCHES):
            branch = layers[number].get_submodule(name)
            branch.register_forward_hook(_hook(drop, len(_BRANCHES) * number + place, of_layer))
    return drop


def check_drop_path(family: Family) -> None:
    """Raise `TrainingError` if the family does not read images as tiles, of which some are to be skipped."""
    if not family.vision_layers:
        raise TrainingError(
            "an InternVL backbone for --drop-path (the paper's code supports no other)",
            family.model_type,
            "give --drop-path 0, with --recipe paper, too",
        )


def tile_names(pixels: torch.Tensor) -> torch.Tensor:
    """Return a hash of each tile, int64 ``[tiles]``; ``pixels`` are ``[tiles, …]``, of any float dtype.

    Integer sums do not depend on the order in which a device adds them.
    """
    words = pixels.float().contiguous().view(torch.int32).flatten(1).long()
    places = _mixed(torch.arange(words.shape[1], device=words.device))
    return _mixed((words * places).sum(1))


def _hook(drop: DropPath, branch: int, rate: float) -> Any:
    def scaled(module: Any, args: Any, output: Any) -> Any:
        if not module.training or not rate:
            return output
        hidden = output[0] if isinstance(output, tuple) else output
        factors = drop.factors(branch, rate).to(hidden.dtype)
        hidden = hidden * factors.view(-1, *[1] * (hidden.ndim - 1))
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    return scaled


def _mixed(value: torch.Tensor) -> torch.Tensor:
    """Return SplitMix64 of ``value``, int64 of its shape: every bit depends on every bit of ``value``."""
    value = value + _ODD[0]
    for shift, odd in ((30, _ODD[1]), (27, _ODD[2])):
        value = (value ^ (value >> shift & (1 << 64 - shift) - 1)) * odd
    return value ^ (value >> 31 & (1 << 33) - 1)
