"""Choose the ports of a local Ray's agents, so that its raylet need not wait for the agents to start.

Where the raylet of Ray 2.60 does not know an agent's port, it waits 15 seconds for the agent to tell it, and
crashes if that is too short, as it is on a busy machine: the agents import for half a minute there (ray issue
65983).
"""

import inspect
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

# From 32768 on Linux gives a port to whatever process asks for any, perhaps before its agent uses it.
_FIRST, _LAST = 20_000, 32_767

_AGENTS = (
    "metrics_agent_port",
    "metrics_export_port",
    "dashboard_agent_listen_port",
    "runtime_env_agent_port",
)


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
        with told_listen_port():
            yield
    finally:
        parameter.RayParams = shared  # type: ignore[misc]


@contextmanager
def told_listen_port() -> Iterator[None]:
    """Tell a raylet that starts in this block the port on which its dashboard agent will listen.

    Replaces the private `start_raylet`, which passes the raylet the three other ports, but not this one. The
    raylet reads it from the file that the agent will write.
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
