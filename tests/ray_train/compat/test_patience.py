"""A node of Ray may take longer to start than Ray itself waits."""

import time

import pytest
from ray._private import services

from ray_train.compat.patience import patient_start


@pytest.fixture
def registers_at_call(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The call of Ray's own `get_node` at which the raylet has registered; calls are counted down."""
    left = [0]

    def get_node(address: str, node: str) -> dict[str, str]:
        left[0] -= 1
        if left[0] > 0:
            raise RuntimeError("no such node yet")
        return {"address": address, "node": node}

    monkeypatch.setattr(services, "get_node", get_node)
    return left


def test_a_node_is_waited_for_until_it_has_registered(registers_at_call: list[int]) -> None:
    registers_at_call[0] = 4
    with patient_start():
        assert services.get_node("127.0.0.1:6379", "abc") == {"address": "127.0.0.1:6379", "node": "abc"}
    assert registers_at_call == [0]


def test_a_node_that_never_registers_is_rays_own_error_after_the_patience(
    registers_at_call: list[int],
) -> None:
    registers_at_call[0] = 10**9
    started = time.monotonic()
    with patient_start(0.3), pytest.raises(RuntimeError, match="no such node yet"):
        services.get_node("127.0.0.1:6379", "abc")
    assert time.monotonic() - started > 0.3


def test_ray_is_as_it_was_after_the_block(registers_at_call: list[int]) -> None:
    before = services.get_node
    with patient_start():
        assert services.get_node is not before
    assert services.get_node is before
