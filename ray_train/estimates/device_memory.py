"""Find the memory of a run's devices before its workers start: in the config, here, or in the Ray cluster."""

import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch

from ray_train.config import TrainConfig

Nodes: TypeAlias = Sequence[dict[str, Any]]  # nodes of a cluster, as ``ray.nodes()`` returns them

_IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray for the command of a job
_TYPE = "accelerator_type:"  # prefix of the Ray resource that names a node's type of GPU
# GB of the GPU types, as Ray names them, that have a single memory size: not V100 (16, 32) or A100 (40, 80).
_GB = {
    "T4": 16, "L4": 24, "A10G": 24, "A10": 24, "A30": 24, "A40": 48, "L40": 48, "L40S": 48, "RTX-A6000": 48,
    "RTX-PRO-6000": 96, "A100-40G": 40, "A100-80G": 80, "H20": 96, "H100": 80, "H800": 80, "H200": 141,
    "B200": 180, "GB200": 186, "AMD-Instinct-MI300X-OAM": 192, "AMD-Instinct-MI325X-OAM": 256,
}  # fmt: skip


def asked_before_workers(config: TrainConfig) -> bool:
    """Return whether the cluster's nodes are queried when the run is planned, long before its workers start.

    Not in a Ray job: as long as no worker uses the job's code, nodes on one machine delete it from the folder
    that they share.
    """
    return _is_asked(config) and _IN_A_JOB not in os.environ


def asked_with_workers(config: TrainConfig) -> bool:
    """Return whether the cluster's nodes are queried just before the workers start, as in a Ray job."""
    return _is_asked(config) and _IN_A_JOB in os.environ


def _is_asked(config: TrainConfig) -> bool:
    known = config.device_memory or config.device == "cpu"
    return not known and not config.dry_run and "RAY_ADDRESS" in os.environ


def device_memory(config: TrainConfig, nodes: Nodes | None = None) -> tuple[float, str]:
    """Return the memory of the smallest device in bytes, 0 if unknown, and a line that says why.

    Args:
        config: Options of the run; its ``device_memory`` takes precedence.
        nodes: Nodes of the Ray cluster; None: the GPUs of this machine count.

    Returns:
        Bytes and the line, which is empty if the memory is known. 0 and an empty line if the workers compute
        on CPUs, or if nothing says that there are GPUs.
    """
    if config.device_memory:
        return config.device_memory * 1e9, ""
    if config.device == "cpu":
        return 0.0, ""
    if nodes is not None:
        return _of_nodes([node["Resources"] for node in nodes if node["Alive"]], config)
    number = torch.cuda.device_count()
    if number >= config.workers.least or (number and config.device == "gpu"):
        return float(min(torch.cuda.get_device_properties(one).total_memory for one in range(number))), ""
    if asked_with_workers(config):
        return 0.0, "GPU memory not known yet: checked before the workers start"
    elsewhere = config.device == "gpu" or "RAY_ADDRESS" in os.environ
    return 0.0, _unknown("the GPUs are on other machines") if elsewhere else ""


def _of_nodes(resources: Sequence[dict[str, float]], config: TrainConfig) -> tuple[float, str]:
    """Return what `device_memory` does, for nodes with these Ray resources (name -> amount)."""
    kinds = [
        {name.removeprefix(_TYPE) for name in one if name.startswith(_TYPE)}
        for one in resources
        if one.get("GPU")
    ]
    if not kinds:
        return 0.0, _unknown("no node of the cluster has a GPU yet") if config.device == "gpu" else ""
    unknown = {", ".join(sorted(kind)) or "GPUs of no named type" for kind in kinds if not kind & _GB.keys()}
    if unknown:
        return 0.0, _unknown(f"the cluster has {'; '.join(sorted(unknown))}")
    return min(max(_GB[name] for name in kind & _GB.keys()) for kind in kinds) * 1e9, ""


def _unknown(why: str) -> str:
    return f"GPU memory unknown ({why}), not checked: give --device-memory GB"
