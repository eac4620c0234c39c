"""The reward model: the batch that it reads, P(Yes) of each step at its marker, and the loss by objective.

    input_ids [rows, length] ──backbone──▶ [rows, length, hidden] ──at the markers──▶ [markers, hidden]
    [markers, hidden] ──Yes and No rows of the language head──▶ logits [markers, 2] ──softmax──▶ μ = P(Yes)
    [markers, hidden] ──LayerNorm ── Linear ── softplus───────▶ κ [markers]      reward ~ Beta(μκ, (1 − μ)κ)
    logits, κ, `Batch` ──loss_of──▶ a weighted sum over the steps

Logits are never computed for all positions or for the whole vocabulary. The loss is that of hard or soft
labels (paper App. C), or of MC counts K of N. The κ head, the loss on counts and `step_rewards` with a risk
follow BetaPRM (arXiv 2605.15529).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from bisieve._text import one_line
from bisieve.errors import TrainingError
from ray_train.config import TrainConfig
from ray_train.model.backbone import Backbone
from ray_train.model.packed_attention import blocks_of
from ray_train.model.prompt_format import PromptFormat

KAPPA = "kappa.safetensors"  # file with the κ head's weights, in the folder of a model that has one
KAPPA_MIN, KAPPA_INIT = 1e-3, 4.0  # lower bound of κ, and κ before training; BetaPRM's values
_EPSILON = 1e-6  # keeps both parameters of the Beta distribution above 0; BetaPRM's value
NO_ROW = -1  # `Sample.row` of a filler


@dataclass(frozen=True)
class Batch:
    """One micro-batch of samples as tensors.

    The targets belong to the marker tokens of ``inputs["input_ids"]``, row by row and from left to right;
    there is one marker per step. ``input_ids`` is int64 ``[rows, length]``, in a pack ``[1, length]``.
    """

    inputs: dict[str, Any]  # keyword arguments of the model
    labels: torch.Tensor  # float32 [markers], in [0, 1]
    weights: torch.Tensor  # float32 [markers], 0 for fillers and for steps with N = 0
    totals: torch.Tensor  # int64 [markers], N of each step; 0 if unknown or not needed
    kept_steps: list[int]  # steps kept of each sample, 0 for a skipped one; a pack lists only kept ones
    rows: list[int]  # rows of the selection that are in the batch, without fillers
    shortened: int  # samples that lost trailing steps
    skipped: int  # samples of which no step fits, or whose text contains a token of the format
    last: bool = False  # whether it is the last one of its step on its rank
    transparent: int = 0  # images that were put on white
    unclear: int = 0  # samples whose image placeholders do not match their images one to one
    broken: dict[str, str] = field(default_factory=dict)  # broken image -> reason; its rollouts are left out

    def to(self, device: torch.device) -> "Batch":
        """Return a copy with all tensors on ``device``; input tensors are copied asynchronously."""
        inputs = {
            name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for name, value in self.inputs.items()
        }
        targets = {name: getattr(self, name).to(device) for name in ("labels", "weights", "totals")}
        return replace(self, inputs=inputs, **targets)


def check_alignment(markers: int, labels: int, where: str = "a batch") -> None:
    """Raise `TrainingError` unless there are as many markers as labels.

    Labels shifted by one step would spoil the training without any visible sign.

    Args:
        markers: number of marker tokens.
        labels: number of labels.
        where: what they belong to, for the error.
    """
    if markers != labels:
        raise TrainingError(
            f"as many markers as labels in {where}",
            f"{markers} markers and {labels} labels",
            "report this as a bug",
        )


class KappaHead(nn.Module):
    """The head that computes κ of every step; before training it is `KAPPA_INIT` for any input.

    The parameters are direct members, not in a LayerNorm and a Linear. So the head computes in float32 in any
    precision of the run, and ZeRO-3 gathers them when the head is called.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(hidden_size))
        self.shift = nn.Parameter(torch.zeros(hidden_size))
        self.weight = nn.Parameter(torch.zeros(1, hidden_size))  # a matrix, so that weight decay applies
        self.bias = nn.Parameter(torch.tensor([math.log(math.expm1(KAPPA_INIT - KAPPA_MIN))]))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return κ, float32 ``[markers]``, at least `KAPPA_MIN`; ``hidden`` is ``[markers, hidden_size]``."""
        scale, shift, weight, bias = (p.float() for p in (self.scale, self.shift, self.weight, self.bias))
        normed = functional.layer_norm(hidden.float(), scale.shape, scale, shift)
        return functional.softplus(functional.linear(normed, weight, bias))[:, 0] + KAPPA_MIN


class RewardModel(nn.Module):
    """A backbone with the Yes and No logits at each marker as its output, and with a κ head also κ."""

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
        """Weight of the language head, ``[vocabulary, hidden]``.

        Where peft trains the marker's row of it, this is the frozen weight without that change.
        """
        head = self.backbone.get_output_embeddings()
        return getattr(head, "original_module", head).weight  # type: ignore[no-any-return]

    def forward(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Return the logits of Yes and No at each marker, and κ as a third column with a κ head.

        Args:
            inputs: `Batch.inputs`, with ``input_ids`` int64 ``[rows, length]``. Those of a pack (with
                ``extents``) need a backbone set up by `read_packs`.

        Returns:
            float32 ``[markers, 2]`` or ``[markers, 3]``; markers row by row and from left to right.
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
    """Return the reward model on ``backbone``; ``with_kappa`` adds an untrained κ head.

    Raises:
        TrainingError: the marker, "Yes" or "No" of ``format`` is not one token of the tokenizer.
    """
    marker, yes, no = map(backbone.token_id, (format.marker, format.positive, format.negative))
    head = KappaHead(backbone.model.config.get_text_config().hidden_size) if with_kappa else None
    return RewardModel(backbone.model, marker, yes, no, head)


def load_kappa(head: KappaHead, file: Path) -> None:
    """Load the weights in ``file`` into ``head``.

    Raises:
        TrainingError: the file is missing or damaged, or its weights are not those of ``head``.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        head.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:  # RuntimeError: other names or shapes
        found = one_line(error)
        raise TrainingError(f"the κ head of the model in {file}", found, "copy the model again") from error


def step_rewards(answers: torch.Tensor, risk: float = 0.0) -> torch.Tensor:
    """Return the reward of each step, float32 ``[markers]``: μ − risk · σ, where μ is P(Yes).

    With ``risk`` this is the score by which BetaPRM (arXiv 2605.15529) ranks.

    Args:
        answers: output of `RewardModel`, float32 ``[markers, 2]``; with ``risk`` ``[markers, 3]``.
        risk: number of standard deviations σ to subtract.
    """
    mean = answers[:, :2].softmax(dim=1)[:, 0]
    return mean - risk * deviation(mean, answers[:, 2]) if risk else mean


def deviation(mean: torch.Tensor, kappa: torch.Tensor) -> torch.Tensor:
    """Return the standard deviation of Beta(μκ, (1 − μ)κ), of the shape of ``mean`` (μ) and ``kappa`` (κ)."""
    return (mean * (1 - mean) / (kappa + 1)).sqrt()


# Output of `RewardModel` and its batch -> the loss, a scalar: a weighted sum over the steps.
Loss = Callable[[torch.Tensor, Batch], torch.Tensor]


def loss_of(config: TrainConfig) -> Loss:
    """Return the loss of the run's objective: ``hard``, ``soft`` or ``beta-binomial``."""
    if config.objective == "beta-binomial":
        return lambda answers, batch: beta_binomial_loss(
            answers, batch.labels, batch.totals, batch.weights, config.evidence_weight
        )
    return lambda answers, batch: reward_loss(answers, batch.labels, batch.weights)


def reward_loss(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the weighted *sum* over the steps of the two-way cross-entropy (paper App. C), a scalar.

    It is a sum since only the caller knows the total weight of the global batch.

    Args:
        logits: float32 ``[markers, 2]``, of Yes and No.
        labels: float32 ``[markers]``, in [0, 1], hard or soft.
        weights: float32 ``[markers]``.

    Raises:
        TrainingError: there are not as many labels as markers.
    """
    check_alignment(len(logits), len(labels))
    targets = torch.stack([labels, 1 - labels], dim=1)
    return (functional.cross_entropy(logits, targets, reduction="none") * weights).sum()


def beta_binomial_loss(
    answers: torch.Tensor,
    labels: torch.Tensor,
    totals: torch.Tensor,
    weights: torch.Tensor,
    evidence_weight: float,
) -> torch.Tensor:
    """Return the weighted *sum* of −log P(K | N, μκ, (1 − μ)κ) + λ·|sg(μ) − K/N|·κ over the steps, a scalar.

    sg stops the gradient: the second term lowers κ where μ is wrong, and does not change μ. Computed in
    float64, returned in the dtype of ``answers``.

    Args:
        answers: ``[markers, 3]``, the logits of Yes and No, whose softmax gives μ, and κ.
        labels: float32 ``[markers]``, K/N.
        totals: int64 ``[markers]``, N.
        weights: float32 ``[markers]``; must be 0 where N is 0.
        evidence_weight: λ.

    Raises:
        TrainingError: there are not as many labels or totals as markers.
    """
    check_alignment(len(answers), len(labels))
    check_alignment(len(answers), len(totals))
    mean, kappa = answers[:, :2].double().softmax(dim=1), answers[:, 2].double()
    right = (labels.double() * totals).round()  # K, which float32 K/N gives only up to rounding
    likelihood = log_beta_binomial(right, totals.double(), mean * kappa[:, None] + _EPSILON)
    evidence = (mean[:, 0].detach() - labels).abs() * kappa
    return ((evidence_weight * evidence - likelihood) * weights).sum().to(answers.dtype)


def log_beta_binomial(right: torch.Tensor, total: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    """Return log P(K | N, a, b) of the Beta-Binomial distribution, float64 ``[steps]``.

    All arguments must be float64, since large log-gammas are subtracted from each other.

    Args:
        right: ``[steps]``, K.
        total: ``[steps]``, N.
        beta: ``[steps, 2]``, a and b.
    """
    counts = torch.stack([right, total - right], dim=1)
    coefficient = torch.lgamma(total + 1) - torch.lgamma(counts + 1).sum(dim=1)
    return coefficient + _log_beta(counts + beta) - _log_beta(beta)


def _log_beta(pair: torch.Tensor) -> torch.Tensor:
    return torch.lgamma(pair).sum(dim=1) - torch.lgamma(pair.sum(dim=1))
