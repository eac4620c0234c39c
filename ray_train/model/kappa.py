"""κ: how sure a reward model is of a step's mean reward μ = P(Yes) (paper §3.1, BetaPRM).

hidden state at the marker ── LayerNorm ── Linear ── softplus ──▶ κ        reward ~ Beta(μκ, (1 − μ)κ)
"""

import math
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from bisieve.errors import TrainingError

KAPPA = "kappa.safetensors"  # the head's weights, beside a model that has one
KAPPA_MIN, KAPPA_INIT = 1e-3, 4.0  # the least κ there is, and that of every step before training; the paper's


class KappaHead(nn.Module):
    """κ of every step, at first `KAPPA_INIT`.

    Its parameters are its own, not those of a LayerNorm and a Linear: so it computes in float32 whatever the
    run's precision is, and ZeRO-3 gathers them when it is called.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(hidden_size))
        self.shift = nn.Parameter(torch.zeros(hidden_size))
        self.weight = nn.Parameter(torch.zeros(1, hidden_size))  # a matrix: it decays as others do
        self.bias = nn.Parameter(torch.tensor([math.log(math.expm1(KAPPA_INIT - KAPPA_MIN))]))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """κ, float32 ``[markers]``, above `KAPPA_MIN`; ``hidden`` is ``[markers, hidden_size]``."""
        scale, shift, weight, bias = (p.float() for p in (self.scale, self.shift, self.weight, self.bias))
        normed = functional.layer_norm(hidden.float(), scale.shape, scale, shift)
        return functional.softplus(functional.linear(normed, weight, bias))[:, 0] + KAPPA_MIN


def deviation(mean: torch.Tensor, kappa: torch.Tensor) -> torch.Tensor:
    """The standard deviation of Beta(μκ, (1 − μ)κ), of the shape of both."""
    return (mean * (1 - mean) / (kappa + 1)).sqrt()


def load_kappa(head: KappaHead, file: Path) -> None:
    """Puts the weights in ``file`` into ``head``; `TrainingError` where they are not there or of another."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        head.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:  # the last: other names or shapes
        found = " ".join(str(error).split())[:200]
        raise TrainingError(f"the κ head of the model in {file}", found, "copy the model again") from error
