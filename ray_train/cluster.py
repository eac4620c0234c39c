"""Connect to a Ray cluster or start a local Ray, and choose the device of its workers."""

import logging
import os
import shutil
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from urllib.parse import urlsplit

from bisieve import console
from bisieve._redact import without_secrets
from bisieve._text import pluralize
from bisieve.doctor.machine import FULL_DISK
from bisieve.errors import BisieveError, DiskError, StorageError, TrainingError
from bisieve.io.errors import existing_folder
from bisieve.io.storage import require_writable
from ray_train.compat.ray_init import (
    Watch,
    chosen_agent_ports,
    few_processes,
    kept_handlers,
    own_session,
    start_reaper,
)

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_COLOR_PREFIX": "0",  # else lines of workers have escape codes, also in a file
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a worker without an assigned GPU must see none
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # a checkpoint waits for the controller's poll; default: 2 s
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "2",  # a rank that hangs never answers; default: 30 s
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}

# The longest path of a socket below the temporary folder; Linux allows 107 bytes for the whole path.
_SOCKET_PATH = f"ray/session_2026-11-29_06-00-00_000000_{os.getpid()}/sockets/plasma_store"
_LONGEST_SOCKET = 107

_NO_TOKEN = "InvalidAuthToken"  # in the text of a ConnectionError: Ray's core has no type of its own for this

# The agents of a Ray import for half a minute on a busy machine; Ray gives up after as long, by default.
PATIENCE = {"RAY_agent_register_timeout_ms": "180000"}

# glibc returns big blocks to the system at once; on a CPU, mapping them again costs more than a small model's
# step.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}


@contextmanager
def cluster(workers: int) -> Iterator[Any]:
    """Yield the module ``ray``, connected to a Ray until the block ends.

    If this process is connected already, that connection is used and kept. Otherwise it connects to the
    cluster at ``RAY_ADDRESS``, or starts a Ray on this machine with at least ``workers`` CPUs, which ends
    with the block. Sets the variables in `QUIET`, and for a local Ray those in `KEEP_MEMORY`
    and `PATIENCE`, if they are not set.

    Raises:
        TrainingError: No Ray answers at ``RAY_ADDRESS``, or none starts on this machine.
        StorageError: The disk for the files of a local Ray is full or cannot be written.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", category=FutureWarning, module="ray")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    import ray
    import ray.data
    import ray.train

    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if "RAY_ADDRESS" in os.environ:
        console.status(f"using the Ray at RAY_ADDRESS={without_secrets(os.environ['RAY_ADDRESS'])}")
        _check_listening(os.environ["RAY_ADDRESS"])
    else:
        folder, variable = _temporary_folder()
        check_socket_room(folder, variable)
        check_disk_room(folder, variable)
        console.phase("starting Ray on this machine")
        for name, value in (KEEP_MEMORY | PATIENCE).items():
            os.environ.setdefault(name, value)
        cpus = max(workers, os.cpu_count() or 1)
        options |= {"address": "local", "num_cpus": cpus, "include_dashboard": False}
        # Saves a process: a cluster of one machine has no node that could be drained.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    with start_reaper() as watch:
        _init(ray, options, watch)
        try:
            yield ray
        finally:
            ray.shutdown()


def _temporary_folder() -> tuple[str, str]:
    """Return the folder that Ray uses for its files, and the environment variable that sets it."""
    variable = "RAY_TMPDIR" if os.environ.get("RAY_TMPDIR") else "TMPDIR"
    return os.environ.get(variable) or "/tmp", variable


def _init(ray: Any, options: dict[str, Any], watch: Watch) -> None:
    """Connect to a Ray, or start one whose processes ``watch`` ends; raise `TrainingError` if that fails."""
    where = os.environ.get("RAY_ADDRESS")
    try:
        with own_session(watch), kept_handlers(), nullcontext() if where else _of_one_machine():
            ray.init(**options)
    except Exception as error:  # Ray raises a plain Exception if a node does not start in time
        text = f"{error} {error.__cause__}"
        if isinstance(error, ray.exceptions.AuthenticationError) or _NO_TOKEN in text:
            raise token_error(where or "this machine", text) from error
        if where is None:
            logs = os.path.join(_temporary_folder()[0], "ray/session_latest/logs")
            raise TrainingError(
                "a Ray that starts on this machine", _last_line(error), f"look into {logs}"
            ) from error
        raise TrainingError(
            f"a Ray that answers at {where}", _last_line(error), "check RAY_ADDRESS"
        ) from error


@contextmanager
def _of_one_machine() -> Iterator[None]:
    """Make `ray.init` in this block start a Ray that is quick to start and alone."""
    with chosen_agent_ports(), few_processes():
        yield


def check_socket_room(folder: str, variable: str) -> None:
    """Check that the paths of Ray's sockets below ``folder`` are short enough for Linux.

    Args:
        folder: Folder of Ray's files.
        variable: Environment variable that sets the folder, for the error's hint.

    Raises:
        TrainingError: A path would be longer than 107 bytes.
    """
    longest = len(os.fsencode(os.path.join(folder, _SOCKET_PATH)))
    if longest > _LONGEST_SOCKET:
        raise TrainingError(
            f"a temporary folder whose name has at most {_LONGEST_SOCKET - len(_SOCKET_PATH) - 1} bytes, "
            "since Ray puts sockets there",
            f"{folder}, of {len(os.fsencode(folder))}",
            f"set {variable} to a shorter one, such as /tmp",
        )


def check_disk_room(folder: str, variable: str) -> None:
    """Check that ``folder`` is writable and has room for Ray's files.

    With a full disk Ray would start its workers again and again, forever.

    Args:
        folder: Folder of Ray's files.
        variable: Environment variable that sets the folder, for the error's hint.

    Raises:
        DiskError: Less than 100 MB are free.
        StorageError: The folder cannot be written.
    """
    elsewhere = f"set {variable} to another folder"
    try:
        require_writable(folder)
    except StorageError as error:
        expected, found, _ = error.args
        raise type(error)(expected, found, elsewhere) from error
    free = shutil.disk_usage(existing_folder(folder)).free
    if free < FULL_DISK:
        raise DiskError(
            f"at least {FULL_DISK / 1e6:.0f} MB for Ray's files in {folder}", f"{free / 1e6:.1f} MB free",
            f"free space there, or {elsewhere}",
        )  # fmt: skip


def token_error(address: str, reason: str) -> TrainingError:
    """Return the error for a Ray that refused a missing or wrong token.

    Args:
        address: Address of the Ray.
        reason: Text of Ray's error, which tells a missing token from a wrong one.
    """
    missing = "no authentication token was found" in reason or "RAY_AUTH_MODE is currently" in reason
    return TrainingError(
        f"the token that the Ray at {address} asks for",
        "none" if missing else "none, or another one",
        "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to a file that holds it",
    )


def _check_listening(address: str) -> None:
    """Raise `TrainingError` unless a server listens at ``HOST:PORT``; Ray itself would try for 5 minutes."""
    at = urlsplit(address if "://" in address else f"//{address}")
    try:
        if at.hostname and at.port:  # not for words such as "auto"
            socket.create_connection((at.hostname, at.port), timeout=10).close()
    except (OSError, ValueError) as error:
        raise TrainingError(f"a Ray that answers at {address}", str(error), "check RAY_ADDRESS") from error


@contextmanager
def silenced_core() -> Iterator[None]:
    """Discard what this process writes to file descriptor 2 in the block.

    Ray's C++ core logs there, whatever Python's settings are. Exceptions are still raised.
    """
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def unwrapped(error: BaseException, expected: str, hint: str) -> BisieveError:
    """Return the `BisieveError` inside an exception of Ray, or else a `TrainingError` for it.

    Args:
        error: The exception that Ray raised.
        expected: First argument of the `TrainingError`; the second is the last line of Ray's text.
        hint: Third argument of the `TrainingError`.
    """
    failures = getattr(error, "worker_failures", None) or {}
    for failure in [*failures.values(), error]:
        cause: BaseException | None = failure
        while cause is not None:
            if isinstance(cause, BisieveError):
                return cause
            inner = getattr(cause, "cause", None) or getattr(cause, "controller_failure", None)
            cause = inner or cause.__cause__
    first = next(iter(failures.values()), error)
    return TrainingError(expected, _last_line(first), hint)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def uses_gpus(ray: Any, device: str, workers: int) -> bool:
    """Return whether each worker gets a GPU; print a remark if the user may not expect it.

    Args:
        ray: The module ``ray``, connected.
        device: The option ``--device``.
        workers: Number of workers.

    Raises:
        TrainingError: As `chosen_device`.
    """
    gpus = int(ray.cluster_resources().get("GPU", 0))
    on_gpus, remark = chosen_device(device, workers, gpus, grows="RAY_ADDRESS" in os.environ)
    if remark:
        console.show(remark)
    return on_gpus


def check_device(device: str, workers: int) -> None:
    """Check, before a local Ray starts, that this machine has the GPUs that ``device`` asks for.

    Raises:
        TrainingError: It has fewer than ``workers``.
    """
    ray = sys.modules.get("ray")
    if device == "gpu" and "RAY_ADDRESS" not in os.environ and not (ray and ray.is_initialized()):
        import torch

        chosen_device(device, workers, torch.cuda.device_count(), grows=False)


def chosen_device(device: str, workers: int, gpus: int, grows: bool) -> tuple[bool, str]:
    """Decide whether each worker gets a GPU.

    Args:
        device: The option ``--device``.
        workers: Number of workers.
        gpus: Number of GPUs that there are now.
        grows: Whether more GPUs may come: the autoscaler or an operator may add nodes to a cluster, and Ray
            waits for them. Ray does not tell which nodes its autoscaler can add.

    Returns:
        Whether workers use GPUs, and a remark for the user, which may be empty.

    Raises:
        TrainingError: ``device`` is ``gpu``, and there are too few that cannot become more.
    """
    enough = gpus >= workers
    if device == "cpu":
        return False, ""
    if grows and device == "auto" and not gpus:
        return False, "on CPUs: no node of the cluster has a GPU; --device gpu waits for nodes that have"
    if grows:
        wait = f"waiting for GPUs: the cluster has {gpus}, for {pluralize(workers, 'worker')}"
        return True, "" if enough else wait
    if device == "gpu" and not enough:
        raise TrainingError(
            f"{pluralize(workers, 'GPU')} on this machine, for --workers {workers} --device gpu", str(gpus),
            "give fewer --workers, or another --device",
        )  # fmt: skip
    few = f"on CPUs: {pluralize(gpus, 'GPU')} for {pluralize(workers, 'worker')}; --workers {gpus} uses them"
    return enough, few if 0 < gpus < workers else ""
