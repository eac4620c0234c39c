"""The three ways, each a function from prompts to losses whose sum is the loss of the global batch.

All hold about the same number of tokens at once: two rows of a rollout, or a pack of as many tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional

from bench.training.models import MARKER, NO, YES
from bench.training.rollouts import Prompt
from ray_train.data.packing import PromptBlock, block_of, joined
from ray_train.model.packed_attention import read_packs
from ray_train.model.reward import RewardModel, reward_loss

ROWS = 2  # the paper's micro-batch
Rollout = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # tokens, labels, pixels
Contender = Callable[[Any, Sequence[Prompt], torch.device], Iterator[torch.Tensor]]


def paper(model: Any, prompts: Sequence[Prompt], device: torch.device) -> Iterator[torch.Tensor]:
    """Logits of the whole vocabulary at every position, rollouts in random order."""
    rollouts = _rollouts(prompts)
    order = torch.randperm(len(rollouts), generator=torch.Generator().manual_seed(1)).tolist()
    for inputs, labels in _rows([rollouts[number] for number in order], device):
        logits = model(**inputs, use_cache=False).logits
        at_markers = logits[inputs["input_ids"] == MARKER][:, [YES, NO]].float()
        yield functional.cross_entropy(at_markers, torch.stack([labels, 1 - labels], dim=1), reduction="sum")


def plain(model: Any, prompts: Sequence[Prompt], device: torch.device) -> Iterator[torch.Tensor]:
    """Two logits at the markers, rollouts of like lengths in a batch."""
    reward = RewardModel(model, MARKER, YES, NO)
    for inputs, labels in _rows(sorted(_rollouts(prompts), key=lambda rollout: len(rollout[0])), device):
        yield reward_loss(reward(inputs), labels, torch.ones_like(labels))


def ours(model: Any, prompts: Sequence[Prompt], device: torch.device) -> Iterator[torch.Tensor]:
    """Packs."""
    read_packs(model)
    reward = RewardModel(model, MARKER, YES, NO)
    for pack, labels in packs(prompts):
        inputs = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in joined(pack).items()
        }
        targets = labels.to(device)
        yield reward_loss(reward(inputs), targets, torch.ones_like(targets))


CONTENDERS: dict[str, Contender] = {"paper": paper, "plain": plain, "ours": ours}


def _rollouts(prompts: Sequence[Prompt]) -> list[Rollout]:
    return [
        (tokens, labels, prompt.pixels)
        for prompt in prompts
        for tokens, labels in zip(prompt.rollouts, prompt.labels, strict=True)
    ]


def _rows(
    rollouts: Sequence[Rollout], device: torch.device
) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
    """Batches of rows, padded on the right, and their labels."""
    for start in range(0, len(rollouts), ROWS):
        tokens, labels, pixels = zip(*rollouts[start : start + ROWS], strict=True)
        ids = torch.nn.utils.rnn.pad_sequence(list(tokens), batch_first=True, padding_value=NO)
        lengths = torch.tensor([len(each) for each in tokens])
        mask = torch.arange(ids.shape[1]) < lengths[:, None]
        inputs = {"input_ids": ids, "attention_mask": mask, "pixel_values": torch.cat(pixels)}
        yield {name: value.to(device) for name, value in inputs.items()}, torch.cat(labels).to(device)


def packs(prompts: Sequence[Prompt]) -> Iterator[tuple[list[PromptBlock], torch.Tensor]]:
    """What `ours` trains on, with the labels of each pack."""
    budget = ROWS * max(len(tokens) for prompt in prompts for tokens in prompt.rollouts)
    pack: list[PromptBlock] = []
    labels: list[torch.Tensor] = []
    for prompt in prompts:
        images = {"pixel_values": prompt.pixels}
        block = block_of(prompt.rollouts, prompt.length, lambda ids, _: torch.arange(len(ids)), images, [])
        if pack and sum(b.extent.length for b in pack) + block.extent.length > budget:
            yield pack, torch.cat(labels)
            pack, labels = [], []
        pack.append(block)
        labels += prompt.labels
    yield pack, torch.cat(labels)
