"""A local Ray starts on a busy machine, where its agents take longer than its raylet would wait for them."""

import socket

from ray._private import parameter

from ray_train.compat.agent_ports import chosen_agent_ports, free_ports


def test_each_agent_of_a_ray_has_a_port_of_its_own_before_it_starts() -> None:
    with chosen_agent_ports():
        given = parameter.RayParams(metrics_export_port=None, dashboard_port=8265)
    ports = {
        given.metrics_agent_port, given.metrics_export_port, given.dashboard_agent_listen_port,
        given.runtime_env_agent_port,
    }  # fmt: skip
    assert len(ports) == 4
    assert all(20_000 <= port < 32_768 for port in ports)
    assert given.dashboard_port == 8265


def test_a_port_that_is_in_use_is_not_chosen() -> None:
    every = free_ports(1000)
    with socket.create_server(("127.0.0.1", every[0])):
        assert every[0] not in free_ports(12_000)


def test_ray_is_as_it_was_after_the_block() -> None:
    before = parameter.RayParams
    with chosen_agent_ports():
        assert parameter.RayParams is not before
    assert parameter.RayParams is before
