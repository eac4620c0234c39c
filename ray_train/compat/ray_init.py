"""Change how `ray.init` of Ray 2.60 starts a Ray, for which it has no options; each change is a `with` block.

`start_reaper`, `own_session` and `kept_handlers` keep signals from Ray. Slurm's scancel, systemd and a
terminal's Ctrl-C signal a whole process group. If Ray's processes were in the driver's group, they would end
at once, before the driver could save the run. In sessions of their own they no longer get these signals, so a
reaper process (`reaper`) ends them when the driver ends, however it ends.

`chosen_agent_ports` spares the raylet of a local Ray a wait for its agents. Where a raylet does not know an
agent's port, it waits 15 seconds for the agent to tell it, and crashes if that is too short, as it is on a
busy machine: the agents import for half a minute there (ray issue 65983).

`few_processes` leaves out what only a cluster or an interactive session needs. By default a local Ray starts
three Python programs beside the raylet and its agents, also where ``include_dashboard`` is false: the
dashboard, of which nothing is then served; the monitor of the autoscaler, though one machine cannot grow; and
the log monitor, which sends logs to a driver that asks for none.
"""

import inspect
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_MARKER = "BISIEVE_RAY_OF"

# From 32768 on, Linux may give a port to another process before its agent uses it.
_FIRST, _LAST = 20_000, 32_767

_AGENTS = (
    "metrics_agent_port",
    "metrics_export_port",
    "dashboard_agent_listen_port",
    "runtime_env_agent_port",
)

_LEFT_OUT = ("start_api_server", "start_monitor", "start_log_monitor")


@dataclass(frozen=True)
class Watch:
    """Tells the reaper which processes must end with this one: those with a marker or of a session."""

    marker: str  # NAME=VALUE, in the environment of each process that is started
    sessions: IO[bytes] | None  # pipe to the reaper for session ids, one per line; None without a reaper

    def add(self, session: int) -> None:
        """Let the reaper end Ray's processes of ``session``, too.

        A process that sets its own title may overwrite the marker in its environment.
        """
        if self.sessions is not None:
            with suppress(BrokenPipeError):  # the reaper was killed
                self.sessions.write(b"%d\n" % session)
                self.sessions.flush()


@contextmanager
def start_reaper() -> Iterator[Watch]:
    """Start the reaper and yield its `Watch`; the reaper ends the watched processes when the block ends.

    It also ends them if this process is killed. Without ``/proc`` there is no reaper, and nothing is ended.

    Ray's servers end with the driver anyway, since Ray asks the kernel to kill them. But its agents look for
    their raylet only once they have started, which takes minutes on a busy machine.
    """
    marker = f"{_MARKER}={uuid.uuid4().hex}"
    if not os.path.isdir("/proc/self"):
        yield Watch(marker, None)
        return
    command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("reaper.py")), marker]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as reaper:
        yield Watch(marker, reaper.stdin)


@contextmanager
def own_session(watch: Watch) -> Iterator[None]:
    """Make `ray.init` in this block start Ray's processes in sessions of their own, and watch these.

    Replaces the private `ConsolePopen`, with which Ray 2.60 starts its processes; Ray has no option for it.
    """
    from ray._private import services

    shared = services.ConsolePopen
    name, _, value = watch.marker.partition("=")

    class OwnSession(shared):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            env = {**(kwargs.get("env") or os.environ), name: value}
            subprocess.Popen.__init__(self, *args, **{**kwargs, "env": env, "start_new_session": True})
            watch.add(self.pid)

    services.ConsolePopen = OwnSession  # type: ignore[misc]
    try:
        yield
    finally:
        services.ConsolePopen = shared  # type: ignore[misc]


@contextmanager
def kept_handlers() -> Iterator[None]:
    """Restore the handlers of SIGTERM and SIGINT after the block, since `ray.init` sets its own.

    A SIGTERM during the block reaches the restored handler, but only once Ray's core lets Python run: not
    while it waits for a raylet to start, which takes a second, or half a minute on a crowded machine. Outside
    the main thread this does nothing.

    Replaces the private `connect` of Ray 2.60, in which its core sets a handler in C++ that prints a stack
    and aborts the process: SIGTERM waits from there to the end of the block. This holds for the main thread;
    other threads of a driver that start before must block SIGTERM themselves, or the kernel gives it to them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    from ray._private import worker

    connect = worker.connect

    def connect_undisturbed(*args: Any, **kwargs: Any) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        connect(*args, **kwargs)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    terminated = False
    worker.connect = connect_undisturbed
    try:
        yield
    except SystemExit as error:
        terminated = error.code == signal.SIGTERM  # Ray's handler raises this
        if not terminated:
            raise
    finally:
        worker.connect = connect
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    if terminated:
        signal.raise_signal(signal.SIGTERM)


@contextmanager
def chosen_agent_ports() -> Iterator[None]:
    """Give the agents of a Ray that `ray.init` starts in this block free ports of this machine.

    Replaces the private `RayParams`, since `ray.init` has no option for three of the four ports.
    """
    from ray._private import parameter

    shared: Any = parameter.RayParams

    class ChosenPorts(shared):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options | dict(zip(_AGENTS, free_ports(len(_AGENTS)), strict=True)))

    parameter.RayParams = ChosenPorts  # type: ignore[assignment, misc]
    try:
        with preset_listen_port():
            yield
    finally:
        parameter.RayParams = shared  # type: ignore[misc]


@contextmanager
def preset_listen_port() -> Iterator[None]:
    """Let a raylet that starts in this block know the port on which its dashboard agent will listen.

    Replaces the private `start_raylet`, which passes the raylet the three other ports, but not this one. The
    raylet would wait for the file in which the agent writes it; so that file is written before.
    """
    from ray import _raylet
    from ray._private import services

    core: Any = _raylet
    shared: Any = services.start_raylet
    signature = inspect.signature(shared)

    def start_raylet(*args: Any, **options: Any) -> Any:
        given = signature.bind(*args, **options).arguments
        if port := given.get("dashboard_agent_listen_port"):
            name = core.DASHBOARD_AGENT_LISTEN_PORT_NAME
            core.persist_port(given["session_dir"], given["node_id"], name, port)
        return shared(*args, **options)

    services.start_raylet = start_raylet
    try:
        yield
    finally:
        services.start_raylet = shared


def free_ports(number: int) -> list[int]:
    """Return different ports to which no process of this machine is bound."""
    ports = range(_FIRST, _LAST + 1)
    free = (port for port in random.sample(ports, len(ports)) if _is_free(port))
    return [next(free) for _ in range(number)]


def _is_free(port: int) -> bool:
    with socket.socket() as server, suppress(OSError):
        server.bind(("", port))
        return True
    return False


@contextmanager
def few_processes() -> Iterator[None]:
    """Make `ray.init` in this block start a Ray without dashboard, autoscaler and log monitor.

    Replaces private methods of Ray's `Node`: of the three, `ray.init` has an option for none.
    """
    from ray._private.node import Node

    shared: dict[str, Any] = {name: getattr(Node, name) for name in _LEFT_OUT}

    def nothing(node: Any, **options: Any) -> None:
        """Start nothing."""

    for name in _LEFT_OUT:
        setattr(Node, name, nothing)
    try:
        yield
    finally:
        for name, method in shared.items():
            setattr(Node, name, method)
