"""The DeepSpeed engine around a reward model, and the learning rate of each step."""

import math
import sys
from typing import Any

import torch

from ray_train.compat.deepspeed import import_deepspeed
from ray_train.config import TrainConfig
from ray_train.model.precision import training_dtype
from ray_train.model.reward import RewardModel


def learning_rate(step: int, total_steps: int, config: TrainConfig) -> float:
    """Return the rate of ``step``: linear warm-up over the first ``warmup`` of the steps, then a cosine to 0.

    With ``start_at_zero`` the warm-up begins with 0, as in the paper's code; else with its first step.
    """
    warm = math.ceil(total_steps * config.warmup)
    if step < warm:
        return config.learning_rate * (step if config.start_at_zero else step + 1) / warm
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total_steps - warm)))


def make_engine(model: RewardModel, config: TrainConfig) -> Any:
    """A DeepSpeed engine that owns ``model`` and its AdamW; the process group must be up.

    ``model`` is whole in every rank and is moved to its device as such, before ZeRO-3 splits it: so a start
    takes what `memory.loading` says.
    """
    deepspeed = import_deepspeed()
    model.train()  # as loaded it would not heed gradient checkpointing
    if config.gradient_checkpointing:
        model.backbone.gradient_checkpointing_enable({"use_reentrant": False})
    if config.zero_stage == 3:
        # The head's weight is read outside of its own forward: ZeRO must gather it for us.
        deepspeed.zero.register_external_parameter(model, model.head_weight)
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=adamw(model, config),
        config=deepspeed_config(config),
        dist_init_required=False,
    )
    return engine


def adamw(model: torch.nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over the parameters that are trained; the κ head learns faster.

    Biases and norms do not decay unless ``decayed`` is ``"all"``.

    A group's ``rate_factor`` is what the learning rate of a step is to be multiplied with.
    """
    trained = [(name.startswith("kappa."), p) for name, p in model.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = []
    for of_kappa, factor in ((False, 1.0), (True, config.kappa_rate)):
        others = config.weight_decay if config.decayed == "all" else 0.0
        for matrices, decay in ((True, config.weight_decay), (False, others)):
            found = [p for is_kappa, p in trained if is_kappa is of_kappa and (p.ndim >= 2) is matrices]
            groups.append({"params": found, "weight_decay": decay, "rate_factor": factor})
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=config.epsilon
    )


def deepspeed_config(config: TrainConfig) -> dict[str, Any]:
    """What DeepSpeed is told."""
    return {
        "train_micro_batch_size_per_gpu": config.micro_batch,
        "gradient_accumulation_steps": 1,  # unused: the loop says itself where a global batch ends
        "gradient_clipping": config.clip,
        "bf16": {"enabled": training_dtype(config.precision) is torch.bfloat16},
        "zero_optimization": {"stage": config.zero_stage, **_offloads(config)},
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": sys.maxsize,
    }


def _offloads(config: TrainConfig) -> dict[str, Any]:
    """What DeepSpeed keeps in the CPU's memory; pinned, where there is a GPU to copy to."""
    place = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    kept = {"none": [], "optimizer": ["optimizer"], "parameters": ["optimizer", "param"]}[config.offload]
    return {f"offload_{part}": place for part in kept}
