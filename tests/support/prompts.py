"""Rollouts of three prompts, and the gradients of a model on them, for tests of all that trains."""

from pathlib import Path

import torch
from PIL import Image

from ray_train.data.encode import Encoder, Sample, make_encoder
from ray_train.model.backbone import Backbone, load_backbone, train_only
from ray_train.model.prompt_format import PromptFormat
from ray_train.model.reward import Batch, RewardModel, reward_loss

PARTS = {"frozen vision": ("projector", "language"), "trained vision": ("vision", "projector", "language")}


def rollouts(prompt: int, number: int, images: int = 1) -> list[Sample]:
    """Rollouts of one prompt that begin alike, of different lengths; the last two are the same."""
    pictures = [Image.linear_gradient("L").convert("RGB").resize((28 + 30 * prompt, 40))] * images
    samples = []
    for k in range(number):
        steps = ["We look.", *(f"Step {step} is {min(k, number - 2)}." for step in range(min(k, number - 2)))]
        labels = [float((k + step) % 2) for step in range(len(steps))]
        samples.append(Sample(10 * prompt + k, pictures, f"What is sum {prompt}?", steps, labels))
    return samples


PROMPTS = [rollouts(0, 4), rollouts(1, 1), rollouts(2, 3, images=2)]


def backbone_of(folder: Path, parts: tuple[str, ...] = PARTS["frozen vision"]) -> tuple[Backbone, Encoder]:
    backbone = load_backbone(str(folder), torch.float32)
    train_only(backbone.model, backbone.family, parts)
    slot = backbone.family.image_slot(backbone.processor.tokenizer)
    return backbone, make_encoder(backbone, PromptFormat(slot, backbone.family.image_options(2)), 4096)


def gradients(model: RewardModel, batches: list[Batch]) -> tuple[float, dict[str, torch.Tensor]]:
    """Of all batches, divided by their number of steps, as the training loop does it."""
    steps = sum(float(batch.weights.sum()) for batch in batches)
    total = 0.0
    for batch in batches:
        loss = reward_loss(model(batch.inputs), batch.labels, batch.weights) / steps
        loss.backward()
        total += float(loss.detach())
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return total, found
