"""The loss of each objective: hard or soft labels (paper App. C), or MC counts K of N.

The loss on counts is BetaPRM's (arXiv 2605.15529).
"""

from collections.abc import Callable

import torch

from ray_train.config import TrainConfig
from ray_train.model.batch import Batch, check_alignment
from ray_train.model.reward import reward_loss

# Output of `RewardModel` and its batch -> the loss, a scalar: a weighted sum over the steps.
Loss = Callable[[torch.Tensor, Batch], torch.Tensor]

_EPSILON = 1e-6  # keeps both parameters of the Beta distribution above 0; BetaPRM's value


def loss_of(config: TrainConfig) -> Loss:
    """Return the loss of the run's objective: ``hard``, ``soft`` or ``beta-binomial``."""
    if config.objective == "beta-binomial":
        return lambda answers, batch: beta_binomial_loss(
            answers, batch.labels, batch.totals, batch.weights, config.evidence_weight
        )
    return lambda answers, batch: reward_loss(answers, batch.labels, batch.weights)


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
