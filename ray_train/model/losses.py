"""What a step is trained towards: a hard label, a soft one, or its counts (paper App. C, §3.1)."""

from collections.abc import Callable

import torch

from ray_train.config import TrainConfig
from ray_train.model.batch import Batch, check_alignment
from ray_train.model.reward import reward_loss

Loss = Callable[[torch.Tensor, Batch], torch.Tensor]  # of a reward model's answers; a sum over the steps

_EPSILON = 1e-6  # keeps both parameters of the Beta above 0; the paper's


def loss_of(config: TrainConfig) -> Loss:
    """The loss of the run's objective."""
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
    """The *sum* over the steps of ``weights`` times −log P(K | N, μκ, (1 − μ)κ) + λ·|μ − K/N|·κ, a scalar.

    ``answers`` is ``[markers, 3]``: the logits of Yes and No, of which μ is the softmax, and κ.  ``labels``
    are K/N and ``totals`` N, ``[markers]`` both; where N is 0 there is nothing to learn, and the weight must
    be 0, too.  λ, the ``evidence_weight``, lets κ sink where μ is off; μ itself it leaves alone.
    """
    check_alignment(len(answers), len(labels))
    check_alignment(len(answers), len(totals))
    mean, kappa = answers[:, :2].double().softmax(dim=1), answers[:, 2].double()
    right = (labels.double() * totals).round()  # K: float32 holds K/N not to the last digit
    likelihood = log_beta_binomial(right, totals.double(), mean * kappa[:, None] + _EPSILON)
    evidence = (mean[:, 0].detach() - labels).abs() * kappa
    return ((evidence_weight * evidence - likelihood) * weights).sum().to(answers.dtype)


def log_beta_binomial(right: torch.Tensor, total: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    """log P(K | N, a, b) with its binomial coefficient, ``[steps]``; ``beta`` is ``[steps, 2]``, a and b.

    Differences of large log-gammas: wants float64.
    """
    counts = torch.stack([right, total - right], dim=1)
    coefficient = torch.lgamma(total + 1) - torch.lgamma(counts + 1).sum(dim=1)
    return coefficient + _log_beta(counts + beta) - _log_beta(beta)


def _log_beta(pair: torch.Tensor) -> torch.Tensor:
    return torch.lgamma(pair).sum(dim=1) - torch.lgamma(pair.sum(dim=1))
