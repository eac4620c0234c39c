"""Attention in a pack: blocks do not see each other, and the rollouts of a block see only their prompt.

    prompt     a b c        tokens of one block; each sees itself, what is marked x in its row, and all
    rollout 1  x x x  d     earlier tokens of its own part
    rollout 2  x x x     e

There are two attention calls per block: a causal one for the prompt, and a masked one for the rollouts. So
the only scores computed in vain are those between the rollouts of one prompt.

`read_packs` sets a model up for packs; `RewardModel` then passes the blocks of each pack (`blocks_of`).
"""

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional

from bisieve.errors import TrainingError

if TYPE_CHECKING:
    from ray_train.model.families import Family

NAME = "shared_prompt"  # of this attention in the registry of transformers
_OTHER = {"s_aux": "attention sinks", "sliding_window": "a sliding window", "softcap": "a cap on its scores"}
_FULL = "layers of full_attention"
_KEPT_AS = {"sinks": "s_aux", "sliding_window": "sliding_window", "attn_logit_softcapping": "softcap"}


class Extent(NamedTuple):
    """The numbers of tokens of a block."""

    shared: int  # of the prefix that all rollouts see; of the whole block if it has one rollout
    own: tuple[int, ...]  # of each rollout after the prefix; empty if the block has one rollout

    @property
    def length(self) -> int:
        """Tokens of the block."""
        return self.shared + sum(self.own)


class Block(NamedTuple):
    """A block as attention needs it."""

    extent: Extent
    mask: torch.Tensor  # bool [own tokens, length]: True where a rollout's token (row) sees a token (column)


def blocks_of(extents: Sequence[Extent], device: torch.device) -> list[Block]:
    """Return the blocks of a pack, with their masks on ``device``; every layer uses the same ones."""
    return [Block(extent, _mask(extent, device)) for extent in extents]


def _mask(extent: Extent, device: torch.device) -> torch.Tensor:
    own = torch.arange(len(extent.own), device=device).repeat_interleave(
        torch.tensor(extent.own, dtype=torch.int64, device=device)
    )
    sees = (own[:, None] == own).tril()
    return functional.pad(sees, (extent.shared, 0), value=True)


def check_reads_packs(family: "Family") -> None:
    """Raise `TrainingError` if no model of ``family`` can read packs; needs no loaded model."""
    if family.why_no_packs:
        raise TrainingError(
            "a language model with full attention only, which packing needs",
            f"{family.model_type}, with {family.why_no_packs}",
            "give --pack-tokens 0",
        )


def check_packable(model: Any) -> None:
    """Raise `TrainingError` unless all layers of the language part of ``model`` have plain full attention.

    In a pack the tokens of other rollouts are in between. A window of tokens, or a state that is passed from
    token to token, would therefore include what a rollout must not see. Attention sinks and capped scores are
    not implemented here.
    """
    config, decoder = model.config.get_text_config(), model.get_decoder()
    found = {f"layers of {kind}" for kind in getattr(config, "layer_types", None) or ()} - {_FULL}
    for module in decoder.modules():
        found |= {_OTHER[name] for own, name in _KEPT_AS.items() if getattr(module, own, None) is not None}
    if found:
        raise TrainingError(
            f"a language model ({config.model_type}) with full attention only, which packing needs",
            ", ".join(sorted(found)),
            "give --pack-tokens 0",
        )


def reads_packs(family: "Family", model: Any) -> bool:
    """Return whether `read_packs` can set up ``model``, of ``family``."""
    try:
        check_reads_packs(family)
        check_packable(model)
    except TrainingError:
        return False
    return True


def read_packs(model: Any) -> None:
    """Set up the language part of ``model`` to read packs; it can no longer read padded rows.

    Raises:
        TrainingError: it has other than plain full attention; see `check_packable`.
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
    """Compute attention in a pack; transformers calls this in every layer.

    Args:
        module: the layer.
        query: ``[1, heads, length, size]``.
        key: ``[1, key heads, length, size]``; ``heads`` is a multiple of ``key heads``.
        value: as ``key``.
        attention_mask: must be None; ``blocks`` have the masks.
        blocks: of the pack, whose lengths add up to ``length``.
        scaling: factor of the scores.
        dropout: of the attention weights, in training only.
        others: further arguments of transformers.

    Returns:
        ``[1, length, heads, size]``, and None instead of attention weights.

    Raises:
        TrainingError: there is a mask, or the layer asks for sinks, a window or capped scores; they would be
            ignored.
    """
    if attention_mask is not None:
        raise TrainingError("a pack without an attention mask", "one", "report this as a bug")
    if asked := [words for name, words in _OTHER.items() if others.get(name) is not None]:
        raise TrainingError(
            "full attention only, which packing needs", ", ".join(asked), "give --pack-tokens 0"
        )
    groups = query.shape[1] // key.shape[1]  # query heads per key and value head
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
