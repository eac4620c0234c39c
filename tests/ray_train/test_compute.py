"""FLOPs against those that torch counts."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop
from torch.utils.flop_counter import FlopCounterMode

from ray_train.compute import flops, hours

PARTS = ("vision", "projector", "language")


@pytest.mark.parametrize(
    ("trained", "checkpointing"),
    [
        (["projector", "language"], False),
        (["projector", "language"], True),
        (["projector"], False),
        (["vision", "projector", "language"], False),
        (["vision", "projector", "language"], True),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else None,
)
def test_the_flops_are_those_that_torch_counts(trained: list[str], checkpointing: bool) -> None:
    width, depth, tokens = 64, 20, 8
    parts = {name: nn.Sequential(*(nn.Linear(width, width) for _ in range(depth))) for name in PARTS}
    for name, part in parts.items():
        part.requires_grad_(name in trained)
    with FlopCounterMode(display=False) as counter, set_checkpoint_early_stop(False):
        values = torch.ones(tokens, width)
        for name in PARTS:
            for layer in parts[name]:
                recomputed = checkpointing and (values.requires_grad or name in trained)
                values = checkpoint(layer, values, use_reentrant=False) if recomputed else layer(values)
        values.sum().backward()
    multiplied = dict.fromkeys(PARTS, depth * width * width)
    counted = flops(multiplied, dict.fromkeys(PARTS, tokens), trained, checkpointing)
    # Torch has less to do by the first trained layer's gradient of its input.
    assert counter.get_total_flops() == pytest.approx(counted, rel=0.03)


def test_hours_are_work_over_what_the_devices_reach() -> None:
    assert hours(7.2e18, 8, 1e15, 0.25) == pytest.approx(1.0)
