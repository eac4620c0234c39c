"""Positions of tokens for families whose images count as text."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def text_positions(model: Any, tokens: "torch.Tensor", images: "dict[str, torch.Tensor]") -> "torch.Tensor":
    """Return positions that count tokens, whether they are of text or of images (int64 [length])."""
    import torch

    return torch.arange(len(tokens))
