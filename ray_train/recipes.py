"""Options by the name of a recipe: what the paper's own code does where bisieve's default does otherwise.

Each difference, with its measured size, is in docs/paper.md.
"""

from collections.abc import Mapping
from typing import Any

# 512 rollouts a step are 4 GPUs × 2 rollouts × 64.  The paper's code divides the gradient by the 64 twice.
# AdamW does not see a gradient's scale, but the clipping and epsilon do: both count 64 times as much there.
_ACCUMULATION = 64

PAPER: Mapping[str, Any] = {
    "prompts_together": False,
    "pack_tokens": 0,
    "micro_batch": 2,
    "loss_mean": "pair",
    "drop_last": True,
    "start_at_zero": True,
    "decayed": "all",
    "drop_path": 0.4,
    "clip": 1.0 * _ACCUMULATION,
    "epsilon": 1e-8 * _ACCUMULATION,
    "gradient_checkpointing": True,
}

RECIPES: Mapping[str, Mapping[str, Any]] = {"bisieve": {}, "paper": PAPER}
