"""The reward of a step: P(Yes) against P(No) at its marker, and the loss on it (paper App. C).

Hidden states are read at the markers alone, logits come from two rows of the language head: never all
positions, never the whole vocabulary.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ray_train.data.encoding import check_alignment
from ray_train.model.backbone import Backbone
from ray_train.model.kappa import KappaHead, deviation
from ray_train.model.packed_attention import blocks_of
from ray_train.model.prompt_format import PromptFormat


class RewardModel(nn.Module):
    """A backbone that answers with the Yes and No logits at each marker, and maybe with κ."""

    def __init__(
        self,
        backbone: Any,
        marker_id: int,
        positive_id: int,
        negative_id: int,
        kappa: KappaHead | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.kappa = kappa
        self.marker_id = marker_id
        self.answer_ids = [positive_id, negative_id]

    @property
    def head_weight(self) -> nn.Parameter:
        """The language head's ``[vocabulary, hidden]``; where peft trains a row of it, without that row."""
        head = self.backbone.get_output_embeddings()
        return getattr(head, "original_module", head).weight  # type: ignore[no-any-return]

    def forward(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Float32 ``[markers, 2]``: the logits of Yes and No, markers row by row and left to right.

        With a head for it there is a third column, κ.
        ``inputs`` are a batch's; those of a pack want a backbone that reads packs.
        """
        reads = dict(inputs)
        if (extents := reads.pop("extents", None)) is not None:
            reads["blocks"] = blocks_of(extents, inputs["input_ids"].device)
        hidden = self.backbone.model(**reads, use_cache=False).last_hidden_state
        at_markers = hidden[inputs["input_ids"] == self.marker_id]  # [markers, hidden]
        head = self.head_weight[self.answer_ids]  # [2, hidden]
        logits = functional.linear(at_markers.float(), head.float())
        return logits if self.kappa is None else torch.column_stack([logits, self.kappa(at_markers)])


def reward_model(backbone: Backbone, format: PromptFormat, with_kappa: bool = False) -> RewardModel:
    """The reward model on ``backbone``; ``with_kappa`` it gets a κ head, untrained."""
    marker, yes, no = map(backbone.token_id, (format.marker, format.positive, format.negative))
    head = KappaHead(backbone.model.config.get_text_config().hidden_size) if with_kappa else None
    return RewardModel(backbone.model, marker, yes, no, head)


def reward_loss(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The *sum* over the steps of ``weights`` times the two-way cross-entropy of ``labels``, a scalar.

    ``logits`` is ``[markers, 2]``, ``labels`` ``[markers]`` in [0, 1] (hard or soft), ``weights``
    ``[markers]``.  A sum, since only the caller knows how many steps the global batch has.
    """
    check_alignment(len(logits), len(labels))
    targets = torch.stack([labels, 1 - labels], dim=1)
    return (functional.cross_entropy(logits, targets, reduction="none") * weights).sum()


def step_rewards(answers: torch.Tensor, risk: float = 0.0) -> torch.Tensor:
    """P(Yes) of each step, less ``risk`` standard deviations where κ is known; float32 ``[markers]``.

    ``answers`` are a reward model's.  With ``risk`` it is the score by which the paper ranks, μ − λσ (§3.1).
    """
    mean = answers[:, :2].softmax(dim=1)[:, 0]
    return mean - risk * deviation(mean, answers[:, 2]) if risk else mean
