from dataclasses import dataclass, field, replace
from typing import Any

import torch

from bisieve.errors import TrainingError

NO_ROW = -1  # the row of a sample that only fills up a batch


@dataclass(frozen=True)
class Batch:
    """Samples as tensors; the markers, row by row and left to right, belong to ``labels``."""

    inputs: dict[str, Any]  # keyword arguments of the model
    labels: torch.Tensor  # float32 [markers]
    weights: torch.Tensor  # float32 [markers], 0 for fillers and for steps of which nothing is known
    totals: torch.Tensor  # int64 [markers], N of each step, 0 where it is not asked for
    kept_steps: list[int]  # steps that are left of each sample; 0 for one that was skipped
    rows: list[int]  # rows of the selection that are in the batch
    shortened: int  # samples that lost trailing steps
    skipped: int  # samples of which not even one step fits, or whose text holds a token of the format
    last: bool = False  # of its step, on its rank
    transparent: int = 0  # images that were put on white
    unclear: int = 0  # samples whose placeholders do not tell the place of every image
    broken: dict[str, str] = field(default_factory=dict)  # images whose rollouts are left out, and why

    def to(self, device: torch.device) -> "Batch":
        inputs = {
            name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for name, value in self.inputs.items()
        }
        targets = {name: getattr(self, name).to(device) for name in ("labels", "weights", "totals")}
        return replace(self, inputs=inputs, **targets)


def check_alignment(markers: int, labels: int, where: str = "a batch") -> None:
    """`TrainingError` unless every label has its marker: a shift by one would wreck training unseen."""
    if markers != labels:
        raise TrainingError(
            f"as many markers as labels in {where}",
            f"{markers} markers and {labels} labels",
            "report this as a bug",
        )
