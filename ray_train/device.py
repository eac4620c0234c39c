"""What the workers of a command compute on."""

import os
import sys
from typing import Any

from bisieve.errors import TrainingError
from bisieve.wording import counted

DEVICES = ("auto", "gpu", "cpu")


def uses_gpus(ray: Any, device: str, workers: int) -> bool:
    """Whether each of ``workers`` gets a GPU; says so where that is not what one would expect.

    `TrainingError` as of `chosen_device`.
    """
    gpus = int(ray.cluster_resources().get("GPU", 0))
    on_gpus, remark = chosen_device(device, workers, gpus, grows="RAY_ADDRESS" in os.environ)
    if remark:
        print(remark, flush=True)
    return on_gpus


def check_device(device: str, workers: int) -> None:
    """Raise `TrainingError`, before a Ray of our own starts, for GPUs that this machine does not have."""
    ray = sys.modules.get("ray")
    if device == "gpu" and "RAY_ADDRESS" not in os.environ and not (ray and ray.is_initialized()):
        import torch

        chosen_device(device, workers, torch.cuda.device_count(), grows=False)


def chosen_device(device: str, workers: int, gpus: int, grows: bool) -> tuple[bool, str]:
    """Whether each of ``workers`` gets a GPU where there are ``gpus`` now, and what is to be said of it.

    A cluster that others have started ``grows``, by its autoscaler or by hand, and Ray waits for that.  Which
    machines its autoscaler could bring, Ray does not tell.  `TrainingError` for GPUs that cannot come.
    """
    enough = gpus >= workers
    if device == "cpu":
        return False, ""
    if grows and device == "auto" and not gpus:
        return False, "on CPUs: no node of the cluster has a GPU; --device gpu waits for nodes that have"
    if grows:
        wait = f"waiting for GPUs: the cluster has {gpus}, for {counted(workers, 'worker')}"
        return True, "" if enough else wait
    if device == "gpu" and not enough:
        raise TrainingError(
            f"{counted(workers, 'GPU')} on this machine, for --workers {workers} --device gpu", str(gpus),
            "give fewer --workers, or another --device",
        )  # fmt: skip
    few = f"on CPUs: {counted(gpus, 'GPU')} for {counted(workers, 'worker')}; --workers {gpus} uses them"
    return enough, few if 0 < gpus < workers else ""
