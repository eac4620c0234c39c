"""The benchmark of a training step: its contenders compute the same."""

import pytest
import torch

from bench.training.contenders import CONTENDERS
from bench.training.models import SIZES, build_model
from bench.training.rollouts import make_prompts


def test_all_contenders_have_the_same_loss_and_gradient() -> None:
    prompts, device = make_prompts(2, SIZES["nano"]), torch.device("cpu")
    losses, gradients = [], []
    for contender in CONTENDERS.values():
        model = build_model(SIZES["nano"], device)
        loss = torch.stack(list(contender(model, prompts, device))).sum() / 36
        loss.backward()
        losses.append(float(loss.detach()))
        weights = model.model.language_model.layers[0].mlp.up_proj.weight
        gradients.append(weights.grad)
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-5)
    assert float(gradients[0].abs().max()) > 1e-4
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], atol=1e-5, rtol=0)
