"""Attention in a pack: every block by itself, its prompt once, its rollouts blind to one another.

    prompt     a b c        of one block; each token sees itself and what is marked
    rollout 1  x x x  d
    rollout 2  x x x     e

Two calls a block, the prompt's being plain causal, so nothing is computed that a mask throws away but what
the rollouts of one prompt would have to do with each other.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch.nn import functional

NAME = "shared_prompt"  # of this attention among those of transformers


class Extent(NamedTuple):
    """How many tokens a block has."""

    shared: int  # the prompt's, which all its rollouts see
    own: tuple[int, ...]  # each rollout's after these

    @property
    def length(self) -> int:
        """Tokens of the block."""
        return self.shared + sum(self.own)


class Block(NamedTuple):
    """What attention needs to know of a block."""

    extent: Extent
    mask: torch.Tensor  # bool [own tokens, length]: what each rollout's tokens see


def blocks_of(extents: Sequence[Extent], device: torch.device) -> list[Block]:
    """The blocks of a pack, with their masks on ``device``: made once, used by every layer."""
    return [Block(extent, _mask(extent, device)) for extent in extents]


def _mask(extent: Extent, device: torch.device) -> torch.Tensor:
    own = torch.arange(len(extent.own), device=device).repeat_interleave(
        torch.tensor(extent.own, dtype=torch.int64, device=device)
    )
    sees = (own[:, None] == own).tril()
    return functional.pad(sees, (extent.shared, 0), value=True)


def read_packs(model: Any) -> None:
    """From now on the language part of ``model`` reads packs, and nothing else."""
    transformers: Any = import_module("transformers")
    transformers.AttentionInterface.register(NAME, shared_prompt_attention)
    model.set_attn_implementation({"text_config": NAME})


def shared_prompt_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    blocks: Sequence[Block],
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """``[1, length, heads, size]`` for a query of ``[1, heads, length, size]``, as transformers calls it."""
    groups = query.shape[1] // key.shape[1]  # heads of the query that share a head of key and value
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    options: Any = {"scale": scaling, "dropout_p": dropout if module.training else 0.0}
    parts, start = [], 0
    for (shared, own), mask in ((block.extent, block.mask) for block in blocks):
        middle, end = start + shared, start + shared + sum(own)
        prompt, rest, seen = slice(start, middle), slice(middle, end), slice(start, end)
        parts.append(_attend(query[:, :, prompt], key[:, :, prompt], value[:, :, prompt], None, options))
        if own:
            parts.append(_attend(query[:, :, rest], key[:, :, seen], value[:, :, seen], mask, options))
        start = end
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, options: Any
) -> torch.Tensor:
    return functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, **options
    )
