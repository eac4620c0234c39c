"""Attention in a pack: every block by itself, its prompt once, its rollouts blind to one another.

    prompt     a b c        of one block; each token sees itself and what is marked
    rollout 1  x x x  d
    rollout 2  x x x     e

Two calls a block, the prompt's being plain causal, so nothing is computed that a mask throws away but what
the rollouts of one prompt would have to do with each other.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional

from bisieve.errors import TrainingError

if TYPE_CHECKING:
    from ray_train.model.families.base import Family

NAME = "shared_prompt"  # of this attention among those of transformers
_OTHER = {"s_aux": "attention sinks", "sliding_window": "a sliding window", "softcap": "a cap on its scores"}
_FULL = "layers of full_attention"
_KEPT_AS = {"sinks": "s_aux", "sliding_window": "sliding_window", "attn_logit_softcapping": "softcap"}


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


def check_reads_packs(family: "Family") -> None:
    """Raise `TrainingError` where no model of ``family`` can read packs: known before any is loaded."""
    if family.why_no_packs:
        raise TrainingError(
            f"a language part of plain full attention, to read packs, which {family.model_type} has not",
            family.why_no_packs,
            "give --pack-tokens 0",
        )


def check_packable(model: Any) -> None:
    """`TrainingError` unless every layer of the language part of ``model`` attends to all that is before it.

    In a pack other rollouts lie in between, so a window of tokens, or a state that goes from one to the
    next, would be of what a rollout must not see; sinks and caps no kernel here knows.
    """
    config, decoder = model.config.get_text_config(), model.get_decoder()
    found = {f"layers of {kind}" for kind in getattr(config, "layer_types", None) or ()} - {_FULL}
    for module in decoder.modules():
        found |= {_OTHER[name] for own, name in _KEPT_AS.items() if getattr(module, own, None) is not None}
    if found:
        raise TrainingError(
            f"a language part ({config.model_type}) of plain full attention, to read packs",
            ", ".join(sorted(found)),
            "give --pack-tokens 0",
        )


def read_packs(model: Any) -> None:
    """From now on the language part of ``model`` reads packs, and nothing else.

    `TrainingError` as of `check_packable`.
    """
    check_packable(model)
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
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """``[1, length, heads, size]`` for a query of ``[1, heads, length, size]``, as transformers calls it.

    `TrainingError` where that asks for what is not computed here: numbers would be wrong, and nobody see it.
    """
    if asked := [words for name, words in _OTHER.items() if others.get(name) is not None]:
        raise TrainingError("plain full attention in packs", ", ".join(asked), "give --pack-tokens 0")
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
