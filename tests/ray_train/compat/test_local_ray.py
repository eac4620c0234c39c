"""What a local Ray leaves out; that it starts and works without: `test_agent_ports.py`."""

from typing import Any

from ray._private.node import Node

from ray_train.compat.local_ray import few_processes

NAMES = ("start_api_server", "start_monitor", "start_log_monitor")


def test_a_ray_starts_nothing_that_only_a_cluster_needs_and_is_as_it_was_after_the_block() -> None:
    node: Any = object.__new__(Node)  # it is asked nothing, and has nothing
    before = [getattr(Node, name) for name in NAMES]
    with few_processes():
        node.start_api_server(include_dashboard=False, raise_on_failure=False)
        node.start_monitor()
        node.start_log_monitor()
    assert [getattr(Node, name) for name in NAMES] == before
