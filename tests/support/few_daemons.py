"""Ray nodes of the tests without what no test asks of them."""

from typing import Any


def start_few_daemons() -> None:
    """Make each `ray start` of this process leave out what no test asks of its node.

    Of the ten parts of the dashboard, jobs, nodes and state are left. Nothing connects by Ray's client, asks
    for nodes, or has logs sent to its driver.
    """
    from ray._private import node, services
    from ray._private.ray_constants import PROCESS_TYPE_DASHBOARD

    start: Any = services.start_ray_process

    def start_ray_process(command: list[str], process_type: str, **options: Any) -> Any:
        if process_type == PROCESS_TYPE_DASHBOARD:
            command = [*command, "--modules-to-load=JobHead,NodeHead,StateHead"]
        return start(command, process_type, **options)

    services.start_ray_process = start_ray_process
    for name in ("start_ray_client_server", "start_monitor", "start_log_monitor"):
        setattr(node.Node, name, lambda node: None)
