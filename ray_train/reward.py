"""The reward of a step: P(Yes) against P(No) at its marker, and the loss on it (paper App. C).

Hidden states are read at the markers alone, logits come from two rows of the language head: never all
positions, never the whole vocabulary.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ray_train.backbone import Backbone
from ray_train.encoding import check_alignment
from ray_train.packed_attention import blocks_of
from ray_train.prompt_format import PromptFormat


class RewardModel(nn.Module):
    """A backbone that answers with the Yes and No logits at each marker."""

    def __init__(self, backbone: Any, marker_id: int, positive_id: int, negative_id: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.marker_id = marker_id
        self.answer_ids = [positive_id, negative_id]

    @property
    def head_weight(self) -> nn.Parameter:
        """The language head's ``[vocabulary, hidden]``; where peft trains a row of it, without that row."""
        head = self.backbone.get_output_embeddings()
        return getattr(head, "original_module", head).weight  # type: ignore[no-any-return]

    def forward(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Float32 ``[markers, 2]``: the logits of Yes and No, markers row by row and left to right.

        ``inputs`` are a batch's; those of a pack want a backbone that reads packs.
        """
        reads = dict(inputs)
        if (extents := reads.pop("extents", None)) is not None:
            reads["blocks"] = blocks_of(extents, inputs["input_ids"].device)
        hidden = self.backbone.model(**reads, use_cache=False).last_hidden_state
        at_markers = hidden[inputs["input_ids"] == self.marker_id]  # [markers, hidden]
        head = self.head_weight[self.answer_ids]  # [2, hidden]
        return functional.linear(at_markers.float(), head.float())


def reward_model(backbone: Backbone, format: PromptFormat) -> RewardModel:
    """The reward model on ``backbone``."""
    ids = (backbone.token_id(token) for token in (format.marker, format.positive, format.negative))
    return RewardModel(backbone.model, *ids)


def reward_loss(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The *sum* over the steps of ``weights`` times the two-way cross-entropy of ``labels``, a scalar.

    ``logits`` is ``[markers, 2]``, ``labels`` ``[markers]`` in [0, 1] (hard or soft), ``weights``
    ``[markers]``.  A sum, since only the caller knows how many steps the global batch has.
    """
    check_alignment(len(logits), len(labels))
    targets = torch.stack([labels, 1 - labels], dim=1)
    return (functional.cross_entropy(logits, targets, reduction="none") * weights).sum()


def step_rewards(logits: torch.Tensor) -> torch.Tensor:
    """P(Yes) of each step, float32 ``[markers]``."""
    return logits.softmax(dim=1)[:, 0]
