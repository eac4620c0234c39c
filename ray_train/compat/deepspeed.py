"""Access to the private state of DeepSpeed's ZeRO optimizers, as fragments that fit any number of ranks.

ZeRO gives every rank a piece of each parameter (stage 3), or a piece of all parameters laid end to end
(stages 1 and 2). A `Fragment` names the parameter and the range of its elements, so that the fragments of one
number of ranks can be assembled into those of another.

    rank 0 of 2   ├── language.weight[0:50) ──┤          rank 0 of 3  ├─ [0:34) ─┤
    rank 1 of 2   ├── language.weight[50:100) ─┤   ──▶   rank 1 of 3  ├─ [34:68) ─┤  …

To read or write the state, use the tensors of `fragments`; after writing, call `sync_model_weights`.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

MASTER = "master"  # the parameter itself, in float32
KINDS = (MASTER, "exp_avg", "exp_avg_sq")  # and AdamW's two moments


@dataclass(frozen=True)
class Fragment:
    """A rank's piece of one parameter."""

    name: str  # of the parameter, as in the model's `named_parameters`
    start: int  # first element, in the flattened parameter
    size: int  # number of elements
    tensor: Callable[[str], torch.Tensor]  # for one of `KINDS`: a writable float32 view ``[size]``

    @property
    def end(self) -> int:
        """Element after the last one, in the flattened parameter."""
        return self.start + self.size


def fragments(engine: Any) -> list[Fragment]:
    """Return this rank's fragments of the trained parameters, in the order of the model's parameters.

    Creates AdamW's moments, as zeros, if no update was made yet.
    """
    _make_moments(engine.optimizer)
    return list(_stage_3(engine) if engine.zero_optimization_partition_weights() else _stage_1_and_2(engine))


def _stage_3(engine: Any) -> Iterator[Fragment]:
    for name, parameter in engine.module.named_parameters():
        if parameter.requires_grad:
            start = parameter.partition_numel() * engine.optimizer._get_param_partition_rank(parameter)
            size = min(parameter.partition_numel(), parameter.ds_numel - start)
            if size > 0:
                yield Fragment(name, start, size, _of_stage_3(engine.optimizer, parameter, size))


def _of_stage_3(optimizer: Any, parameter: torch.Tensor, size: int) -> Callable[[str], torch.Tensor]:
    def tensor(kind: str) -> torch.Tensor:
        key = None if kind == MASTER else kind
        piece: torch.Tensor = optimizer._get_fp32_opt_state_partition(parameter, True, key)[0]
        return piece[:size]  # ZeRO pads the last rank's piece

    return tensor


def _stage_1_and_2(engine: Any) -> Iterator[Fragment]:
    for name, parameter in engine.module.named_parameters():
        piece = getattr(parameter, "_hp_mapping", None)
        if piece is not None:
            address = piece.lp_fragment_address
            yield Fragment(name, address.start, address.numel, _of_stage_1_and_2(engine.optimizer, piece))


def _of_stage_1_and_2(optimizer: Any, piece: Any) -> Callable[[str], torch.Tensor]:
    flat = optimizer.single_partition_of_fp32_groups[piece.param_group_index]
    address = piece.hp_fragment_address

    def tensor(kind: str) -> torch.Tensor:
        # DeepSpeed's own link from a piece to its moments is only made for the first parameter group.
        whole = flat if kind == MASTER else optimizer.optimizer.state[flat][kind]
        view: torch.Tensor = whole.narrow(0, address.start, address.numel)
        return view

    return tensor


def steps_done(engine: Any) -> int:
    """Return the number of updates that AdamW has made, on which its bias correction depends."""
    return int(next(iter(engine.optimizer.optimizer.state.values()))["step"])


def sync_model_weights(engine: Any, steps: int) -> None:
    """Copy the float32 master weights into the model's own weights; all ranks must call this together.

    Args:
        engine: DeepSpeed's engine, whose `fragments` have been written to.
        steps: Updates that AdamW has made, for its bias correction.
    """
    optimizer = engine.optimizer
    for state in optimizer.optimizer.state.values():
        state["step"].fill_(steps)
    if not engine.zero_optimization_partition_weights():
        optimizer.update_lp_params()
        return
    optimizer.checkpoint_event_prologue()
    for group in range(len(optimizer.fp32_partitioned_groups_flat)):
        optimizer._reassign_or_swap_out_partitioned_parameters(group)
    optimizer.checkpoint_event_epilogue()


def _make_moments(optimizer: Any) -> None:
    """Create AdamW's state as its first step does."""
    stage_3 = hasattr(optimizer, "fp32_partitioned_groups_flat")
    flat = optimizer.fp32_partitioned_groups_flat if stage_3 else optimizer.single_partition_of_fp32_groups
    for parameters in flat:
        state = optimizer.optimizer.state[parameters]
        if not state:
            state["step"] = torch.tensor(0.0)
            state |= {kind: torch.zeros_like(parameters) for kind in KINDS[1:]}


def import_deepspeed() -> Any:
    """Import DeepSpeed and return it, avoiding work at import time that training does not need.

    DeepSpeed's autotuner imports MLflow if it is installed, which takes longer than everything else; here
    MLflow is hidden from it. On a machine without GPU, DeepSpeed is set to the CPU and does not compile its
    extension for all-reduce inside one machine, which needs a C++ compiler and most of a minute.
    """
    is_gpu = torch.cuda.is_available()
    if not is_gpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    with _hidden("mlflow"):
        import deepspeed
    if not is_gpu:
        deepspeed.ops.__compatible_ops__ = {}
    return deepspeed


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Make an import of ``module`` fail in the block as if it were not installed.

    Does nothing if the module has been imported already.
    """
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


def forget_process_groups() -> None:
    """Make DeepSpeed forget the process groups of torch that were destroyed in this process.

    It keeps the first one that it has used, and would compute with that one in place of a new one.
    """
    from deepspeed.utils import groups

    groups._release_process_group_references()
