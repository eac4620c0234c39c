"""How well a GPU is used by our step: its FLOPs against the GPU's peak, and with which kernels it attends."""

from collections.abc import Callable, Sequence
from typing import Any

from torch.profiler import profile

from bench.training.contenders import packs
from bench.training.rollouts import Prompt
from ray_train.data.packing import joined
from ray_train.estimates.flops import model_cost
from ray_train.model.backbone import Backbone
from ray_train.model.families import family_of

_ATTENTION = "aten::_scaled_dot_product_"  # what torch calls each of its kernels


def step_flops(model: Any, prompts: Sequence[Prompt]) -> int:
    """Operations that a step of `ours` on ``prompts`` needs."""
    cost = model_cost(Backbone(model, None, family_of("internvl")))
    return sum(cost.flops_of(joined(pack)) for pack, _ in packs(prompts))


def mfu(flops: float, seconds: float, peak: float) -> float:
    """Which share of ``peak`` FLOP/s is reached by ``flops`` operations in so many seconds."""
    return flops / (seconds * peak)


def attention_kernels(step: Callable[[], object]) -> list[str]:
    """Those of torch's that ``step`` attends with, such as ``flash_attention``."""
    with profile() as seen:
        step()
    names = {event.key for event in seen.key_averages() if event.key.startswith(_ATTENTION)}
    return sorted(
        name.removeprefix(_ATTENTION) for name in names if not name.endswith(("_backward", "attention_math"))
    ) or ["attention_math"]
