"""Update the weights: DeepSpeed's engine with AdamW, the learning rate, and a stop of runs that diverge.

    gradient ──`DivergenceGuard.check_loss`──▶ `learning_rate` ──▶ engine.step() ──▶ `check_gradient`

`DivergenceGuard` checks the loss before the update and the norm of the gradient after it, so that no
checkpoint is made of weights that have diverged. It raises `TrainingError` and writes the rollouts of the
step to ``stopped-at-step-N.json``. Each decision uses only numbers that are equal on all ranks, so that all
ranks stop in the same step.
"""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import pyarrow as pa
import torch

from bisieve.errors import StorageError, TrainingError
from bisieve.io import storage
from bisieve.io.urls import join
from ray_train.compat.deepspeed import import_deepspeed
from ray_train.config import TrainConfig
from ray_train.distributed.collectives import from_all_ranks
from ray_train.model.backbone import training_dtype
from ray_train.model.reward import RewardModel

_WINDOW = 50  # last steps whose median gradient norm is the usual one
_LEAST = 10  # earlier steps needed before a norm can count as an explosion


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


@dataclass
class StepRecord:
    """The rows of one step, and which of them this rank saw with a loss that is not finite."""

    step: int
    rows: list[int]  # rows of the selection in the global batch, of all ranks
    suspects: list[int]  # rows in micro-batches of this rank whose loss is not finite

    def add(self, loss: float, rows: list[int]) -> None:
        """Record a micro-batch: its ``rows`` become suspects if ``loss`` is not finite."""
        if not math.isfinite(loss):
            self.suspects += rows


@dataclass(frozen=True)
class DivergenceGuard:
    """Checks of each step's loss and gradient; all ranks must call them together."""

    rollout_ids: pa.ChunkedArray  # string [rows of the selection]
    folder: str  # URL of the folder for ``stopped-at-step-N.json``
    explode_above: float  # limit of the gradient norm, in medians of the earlier norms; 0: no limit
    clip: float  # norm to which gradients are clipped
    rank: int

    def check_loss(self, loss: float, watched: StepRecord) -> None:
        """Check the mean loss of a step before the weights are updated.

        Raises:
            TrainingError: The loss is not finite; raised on all ranks, after rank 0 has written the step's
                rollouts.
        """
        if not math.isfinite(loss):
            hint = "look at these rollouts, or lower --learning-rate and give --restart"
            raise self._stopped(watched, "a finite loss", {"loss": loss}, hint)

    def check_gradient(self, loss: float, norm: float, earlier: Sequence[float], watched: StepRecord) -> None:
        """Check the gradient norm of a step after the weights are updated.

        DeepSpeed computes the norm only during the update. It skips the update if the norm is not finite. An
        exploding gradient was clipped and applied, but these weights are lost with the workers, since no
        checkpoint is made of them.

        Raises:
            TrainingError: The norm is not finite, or it `explodes`; raised on all ranks, after rank 0 has
                written the step's rollouts.
        """
        found: dict[str, Any] = {"loss": loss, "gradient_norm": norm}
        if not math.isfinite(norm):
            raise self._stopped(
                watched,
                "a finite gradient",
                found,
                "look at these rollouts, or lower --learning-rate and give --restart",
            )
        if explodes(norm, earlier, self.explode_above, self.clip):
            usual = median(earlier)
            raise self._stopped(
                watched,
                f"a gradient of at most {self.explode_above:g} times its usual norm of {usual:.3g}",
                found | {"usual_gradient_norm": usual},
                "look at these rollouts, raise --explode-above to go on, or lower --learning-rate "
                "and give --restart",
            )

    def _stopped(self, watched: StepRecord, expected: str, found: dict[str, Any], hint: str) -> TrainingError:
        suspects = sorted(row for rows in from_all_ranks(watched.suspects) for row in rows)
        numbers = ", ".join(f"{name.replace('_', ' ')} {value:.6g}" for name, value in found.items())
        url = join(self.folder, f"stopped-at-step-{watched.step}.json")
        where = f"its rollouts are in {url}"
        if self.rank == 0:  # the user sees the error of this rank
            record = {
                "step": watched.step,
                **{name: value if math.isfinite(value) else str(value) for name, value in found.items()},
                "rows": watched.rows,
                "rollout_ids": self._ids(watched.rows),
                "suspects": self._ids(suspects),
            }
            try:
                storage.write_bytes(url, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())
            except StorageError as error:
                where = f"its rows are {watched.rows[:8]} and so on: {url} could not be written ({error})"
        return TrainingError(expected, f"{numbers} at step {watched.step:,}; {where}", hint)

    def _ids(self, rows: list[int]) -> list[str]:
        ids: list[str] = self.rollout_ids.take(pa.array(rows, pa.int64())).to_pylist()
        return ids


def explodes(norm: float, earlier: Sequence[float], factor: float, clip: float) -> bool:
    """Return whether ``norm`` is far above the gradient norms of the ``earlier`` steps.

    Args:
        norm: Norm of the gradient before clipping.
        earlier: Norms of the steps before, the oldest first; the median of the last 50 is compared.
        factor: A norm above ``factor`` times the median explodes; 0 turns the check off.
        clip: The norm to which gradients are clipped; a norm up to this never explodes.

    Returns:
        False also while there are fewer than 10 earlier steps.
    """
    if factor == 0 or len(earlier) < _LEAST:
        return False
    return norm > max(clip, factor * median(earlier[-_WINDOW:]))


def recent_norms(norm: float, earlier: Sequence[float]) -> list[float]:
    """Return the norms that later steps compare with: those of the last 50 steps, this one included."""
    return [*earlier, norm][-_WINDOW:]
