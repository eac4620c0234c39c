"""Rollouts of VisualPRM400K's lengths, three a prompt, made of random tokens and pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bench.training.models import FIRST_WORD, IMAGE, MARKER, Size

PER_PROMPT, TILES, STEPS = 3, 7, 6  # six tiles and a thumbnail


@dataclass(frozen=True)
class Prompt:
    """An image, a question, and what was answered."""

    pixels: torch.Tensor  # float32 [tiles, 3, side, side]
    length: int  # tokens of image and question
    rollouts: Sequence[torch.Tensor]  # int64 [length], the prompt first, a marker behind each step
    labels: Sequence[torch.Tensor]  # float32 [steps]


def make_prompts(count: int, size: Size) -> list[Prompt]:
    """The same ones every time."""
    random = torch.Generator().manual_seed(0)

    def between(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=random))

    def words(number: int) -> torch.Tensor:
        return torch.randint(FIRST_WORD, size.vocabulary, (number,), generator=random)

    def answer() -> torch.Tensor:
        steps = [torch.cat([words(between(8, 45)), torch.tensor([MARKER])]) for _ in range(STEPS)]
        return torch.cat(steps)

    prompts = []
    for _ in range(count):
        pixels = torch.randn(TILES, 3, size.side, size.side, generator=random)
        prompt = torch.cat([torch.full((TILES * size.tile_tokens,), IMAGE), words(between(30, 90))])
        rollouts = [torch.cat([prompt, answer()]) for _ in range(PER_PROMPT)]
        labels = [torch.randint(0, 2, (STEPS,), generator=random).float() for _ in range(PER_PROMPT)]
        prompts.append(Prompt(pixels, len(prompt), rollouts, labels))
    return prompts
