"""Step rewards: P(Yes) against P(No) at each marker, the loss on it, and its concentration κ.

hidden state at the marker ── LayerNorm ── Linear ── softplus ──▶ κ        reward ~ Beta(μκ, (1 − μ)κ)

Hidden states are read at the markers alone, logits come from two rows of the language head: never all
positions, never the whole vocabulary.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from bisieve.errors import TrainingError
from ray_train.model.backbone import Backbone
from ray_train.model.batch import check_alignment
from ray_train.model.packed_attention import blocks_of
from ray_train.model.prompt_format import PromptFormat

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


class RewardModel(nn.Module):
    """A backbone that answers with the Yes and No logits at each marker, and maybe with κ."""

    def __init__(
        self,
        backbone: Any,
        marker_id: int,
        positive_id: int,
        negative_id: int,
        kappa: KappaHead | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.kappa = kappa
        self.marker_id = marker_id
        self.answer_ids = [positive_id, negative_id]

    @property
    def head_weight(self) -> nn.Parameter:
        """The language head's ``[vocabulary, hidden]``; where peft trains a row of it, without that row."""
        head = self.backbone.get_output_embeddings()
        return getattr(head, "original_module", head).weight  # type: ignore[no-any-return]

    def forward(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Float32 ``[markers, 2]``: the logits of Yes and No, markers row by row and left to right.

        With a head for it there is a third column, κ.
        ``inputs`` are a batch's; those of a pack want a backbone that reads packs.
        """
        reads = dict(inputs)
        if (extents := reads.pop("extents", None)) is not None:
            reads["blocks"] = blocks_of(extents, inputs["input_ids"].device)
        hidden = self.backbone.model(**reads, use_cache=False).last_hidden_state
        at_markers = hidden[inputs["input_ids"] == self.marker_id]  # [markers, hidden]
        head = self.head_weight[self.answer_ids]  # [2, hidden]
        logits = functional.linear(at_markers.float(), head.float())
        return logits if self.kappa is None else torch.column_stack([logits, self.kappa(at_markers)])


def reward_model(backbone: Backbone, format: PromptFormat, with_kappa: bool = False) -> RewardModel:
    """The reward model on ``backbone``; ``with_kappa`` it gets a κ head, untrained."""
    marker, yes, no = map(backbone.token_id, (format.marker, format.positive, format.negative))
    head = KappaHead(backbone.model.config.get_text_config().hidden_size) if with_kappa else None
    return RewardModel(backbone.model, marker, yes, no, head)


def reward_loss(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The *sum* over the steps of ``weights`` times the two-way cross-entropy of ``labels``, a scalar.

    ``logits`` is ``[markers, 2]``, ``labels`` ``[markers]`` in [0, 1] (hard or soft), ``weights``
    ``[markers]``.  A sum, since only the caller knows how many steps the global batch has.
    """
    check_alignment(len(logits), len(labels))
    targets = torch.stack([labels, 1 - labels], dim=1)
    return (functional.cross_entropy(logits, targets, reduction="none") * weights).sum()


def step_rewards(answers: torch.Tensor, risk: float = 0.0) -> torch.Tensor:
    """P(Yes) of each step, less ``risk`` standard deviations where κ is known; float32 ``[markers]``.

    ``answers`` are a reward model's.  With ``risk`` it is the score by which the paper ranks, μ − λσ (§3.1).
    """
    mean = answers[:, :2].softmax(dim=1)[:, 0]
    return mean - risk * deviation(mean, answers[:, 2]) if risk else mean
