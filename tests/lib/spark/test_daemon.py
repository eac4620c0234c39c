"""A worker whose JVM has gone ends in silence; any other fault of its still shows."""

import socket

import pytest

from bisieve.spark.daemon import until_jvm_leaves


def test_a_worker_whose_jvm_has_gone_ends_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    ours, jvms = socket.socketpair()
    jvms.close()

    def worker(sock: socket.socket, authenticated: bool) -> int:
        sock.sendall(b"END")
        return 0

    with ours:
        assert until_jvm_leaves(worker)(ours, True) == 1
    assert capfd.readouterr() == ("", "")


def test_another_fault_of_a_worker_shows() -> None:
    def worker(sock: object, authenticated: bool) -> int:
        raise ValueError("of a task")

    with pytest.raises(ValueError, match="of a task"):
        until_jvm_leaves(worker)(None, True)
