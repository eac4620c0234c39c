"""The DeepSpeed engine around a reward model, and the learning rate of each step."""

import math
import sys
from typing import Any

import torch

from ray_train.compat.deepspeed import import_deepspeed
from ray_train.config import TrainConfig
from ray_train.model.backbone import training_dtype
from ray_train.model.reward import RewardModel


def learning_rate(step: int, total_steps: int, config: TrainConfig) -> float:
    """Return the learning rate of ``step``: linear warm-up to the peak, then a cosine down to 0.

    The warm-up takes ``config.warmup`` of all steps, rounded up.

    Args:
        step: Number of the optimizer step, from 0.
        total_steps: Optimizer steps of the whole run.
        config: Options of the run. With ``start_at_zero`` the rate of step 0 is 0, as in the paper's code,
            and the warm-up is one step later; without, step 0 already has the first fraction of the peak.
    """
    warm = math.ceil(total_steps * config.warmup)
    if step < warm:
        return config.learning_rate * (step if config.start_at_zero else step + 1) / warm
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total_steps - warm)))


def make_engine(model: RewardModel, config: TrainConfig) -> Any:
    """Return a DeepSpeed engine that owns ``model`` and its AdamW optimizer.

    The process group must be initialized. Every rank holds the whole model and moves it to its device before
    ZeRO-3 partitions it; `ray_train.estimates.memory.loading_bytes` gives the bytes that this needs.

    Side effects: sets ``model`` to training mode and enables gradient checkpointing where the options ask
    for it.
    """
    deepspeed = import_deepspeed()
    model.train()  # loaded in eval mode, in which gradient checkpointing has no effect
    if config.gradient_checkpointing:
        model.backbone.gradient_checkpointing_enable({"use_reentrant": False})
    if config.zero_stage == 3:
        # The head's weight is used outside the head's own forward, where ZeRO-3 would not gather it.
        deepspeed.zero.register_external_parameter(model, model.head_weight)
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=adamw(model, config),
        config=deepspeed_config(config),
        dist_init_required=False,
    )
    return engine


def adamw(model: torch.nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Return an AdamW optimizer for the trainable parameters of ``model``.

    It has up to four parameter groups: the κ head and all others, each divided into matrices (2 or more
    dimensions) and the rest (biases and norms). The rest has no weight decay unless ``config.decayed`` is
    ``"all"``. Each group has a ``rate_factor``, by which the training loop multiplies the learning rate of a
    step: ``config.kappa_rate`` for the κ head, 1 for all others.
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
    """Return the configuration of DeepSpeed for a run with these options."""
    return {
        "train_micro_batch_size_per_gpu": config.micro_batch,
        "gradient_accumulation_steps": 1,  # unused: the training loop marks the end of each global batch
        "gradient_clipping": config.clip,
        "bf16": {"enabled": training_dtype(config.precision) is torch.bfloat16},
        "zero_optimization": {"stage": config.zero_stage, **_offloads(config)},
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": sys.maxsize,
    }


def _offloads(config: TrainConfig) -> dict[str, Any]:
    """Return DeepSpeed's options for what it keeps in host memory, which is pinned if there is a GPU."""
    place = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    kept = {"none": [], "optimizer": ["optimizer"], "parameters": ["optimizer", "param"]}[config.offload]
    return {f"offload_{part}": place for part in kept}
