"""Checks of ``bisieve doctor`` for training: the GPUs of this machine, and the Ray at ``RAY_ADDRESS``."""

import os
import platform
from collections.abc import Iterator
from importlib.util import find_spec

import bisieve
from bisieve._text import pluralize
from bisieve.doctor.checks import Check, DoctorTargets, attempted, examined
from bisieve.errors import TrainingError


def examine(targets: DoctorTargets) -> Iterator[Check]:
    """Yield the checks for training: of GPUs if torch is installed, of the Ray at ``RAY_ADDRESS`` if set."""
    if find_spec("torch") is not None:
        yield attempted("gpu", _gpus)
    if find_spec("ray") is not None and "RAY_ADDRESS" in os.environ:
        yield from examined("ray", lambda: _ray, targets)


def _gpus() -> Check:
    import torch

    names = [torch.cuda.get_device_name(device) for device in range(torch.cuda.device_count())]
    return gpus(names, bool(names) and torch.cuda.is_bf16_supported())


def gpus(names: list[str], bf16: bool) -> Check:
    """Return the check of this machine's GPUs.

    Args:
        names: Name of each GPU.
        bf16: Whether the GPUs compute in bf16.
    """
    if not names:
        return Check("gpu", "ok", "none on this machine: it trains on CPUs, in fp32")
    said = f"{pluralize(len(names), 'GPU')}: {', '.join(sorted(set(names)))}"
    if not bf16:
        return Check("gpu", "warning", f"{said}; no bf16", "training is in fp32: twice the memory")
    return Check("gpu", "ok", f"{said}; bf16")


def _ray(_: DoctorTargets) -> Iterator[Check]:
    """Yield the checks of the Ray cluster: the versions on each node, and whether it asks for a token."""
    from ray_train.cluster import cluster

    with cluster(1) as ray:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        about = ray.remote(num_cpus=0)(_about_node)
        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        asked = [
            about.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()
            for node in nodes
        ]
        try:
            answers = ray.get(asked, timeout=60)
            is_locked = ray.get(ray.remote(num_cpus=0)(_asks_for_token).remote(), timeout=60)
        except ray.exceptions.RayError as error:
            raise TrainingError(
                "every node of Ray to run a task", str(error).strip().splitlines()[-1],
                "give all nodes the package's dependencies: pip install 'bisieve[train]'",
            ) from error  # fmt: skip
        resources = ray.cluster_resources()
    yield nodes_of_ray(answers, int(resources.get("CPU", 0)), int(resources.get("GPU", 0)))
    yield token(is_locked)


def _about_node() -> tuple[str, str, str]:
    """Return host name, Python version and bisieve version of the node that runs this."""
    return platform.node(), platform.python_version(), bisieve.__version__


def _asks_for_token() -> bool:
    """Return whether the Ray that runs this asks for a token; a process inherits its node's environment."""
    return os.environ.get("RAY_AUTH_MODE", "").lower() == "token"


def token(is_locked: bool) -> Check:
    """Return the check of whether a Ray asks for a token; it is a warning if it does not."""
    if is_locked:
        return Check("ray token", "ok", "this Ray asks for one")
    return Check(
        "ray token", "warning", "this Ray asks for none: anyone who reaches its ports may run code on it",
        "start every node with RAY_AUTH_MODE=token and the same token (docs/how-to/secure.md)",
    )  # fmt: skip


def nodes_of_ray(answers: list[tuple[str, str, str]], cpus: int, gpus: int) -> Check:
    """Return the check of a cluster's nodes, which fails if their versions differ from this machine's.

    Args:
        answers: Host name, Python version and bisieve version of each node.
        cpus: Number of CPUs of the cluster.
        gpus: Number of GPUs of the cluster.
    """
    here = platform.python_version(), bisieve.__version__
    others = sorted(
        f"{host} has Python {python}, bisieve {version}"
        for host, python, version in set(answers)
        if (python, version) != here
    )
    if others:
        return Check(
            "ray", "failed", f"{', '.join(others)}; here Python {here[0]}, bisieve {here[1]}",
            "give all nodes the same environment, or submit with a runtime_env",
        )  # fmt: skip
    return Check("ray", "ok", f"{pluralize(len(answers), 'node')}, {cpus} CPUs, {gpus} GPUs")
