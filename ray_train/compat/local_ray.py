"""Leave out the processes of a local Ray that only a cluster or an interactive session needs.

Of its own accord Ray 2.60 starts three Python programs beside the raylet and its agents, also where
``include_dashboard`` is false: the dashboard, of which nothing is then served; the monitor of the autoscaler,
though one machine cannot grow; and the log monitor, which sends logs to a driver that asks for none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_LEFT_OUT = ("start_api_server", "start_monitor", "start_log_monitor")


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
