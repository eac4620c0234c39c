"""The batch that the model gets: inputs, targets and counts of one micro-batch, as rows or as a pack."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch

from bisieve.errors import TrainingError

NO_ROW = -1  # `Sample.row` of a filler


@dataclass(frozen=True)
class Batch:
    """One micro-batch of samples as tensors.

    The targets belong to the marker tokens of ``inputs["input_ids"]``, row by row and from left to right;
    there is one marker per step. ``input_ids`` is int64 ``[rows, length]``, in a pack ``[1, length]``.
    """

    inputs: dict[str, Any]  # keyword arguments of the model
    labels: torch.Tensor  # float32 [markers], in [0, 1]
    weights: torch.Tensor  # float32 [markers], 0 for fillers and for steps with N = 0
    totals: torch.Tensor  # int64 [markers], N of each step; 0 if unknown or not needed
    kept_steps: list[int]  # steps kept of each sample, 0 for a skipped one; a pack lists only kept ones
    rows: list[int]  # rows of the selection that are in the batch, without fillers
    shortened: int  # samples that lost trailing steps
    skipped: int  # samples of which no step fits, or whose text contains a token of the format
    last: bool = False  # whether it is the last one of its step on its rank
    transparent: int = 0  # images that were put on white
    unclear: int = 0  # samples whose image placeholders do not match their images one to one
    broken: dict[str, str] = field(default_factory=dict)  # broken image -> reason; its rollouts are left out

    def to(self, device: torch.device) -> "Batch":
        """Return a copy with all tensors on ``device``; input tensors are copied asynchronously."""
        inputs = {
            name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for name, value in self.inputs.items()
        }
        targets = {name: getattr(self, name).to(device) for name in ("labels", "weights", "totals")}
        return replace(self, inputs=inputs, **targets)


def check_alignment(markers: int, labels: int, where: str = "a batch") -> None:
    """Raise `TrainingError` unless there are as many markers as labels.

    Labels shifted by one step would spoil the training without any visible sign.

    Args:
        markers: number of marker tokens.
        labels: number of labels.
        where: what they belong to, for the error.
    """
    if markers != labels:
        raise TrainingError(
            f"as many markers as labels in {where}",
            f"{markers} markers and {labels} labels",
            "report this as a bug",
        )
