"""The doctor's look at GPUs and at Ray.  GPUs are told by name: there is none here."""

import os
import platform

import pytest

import bisieve
from bisieve.doctor.checks import DoctorTargets
from ray_train.doctor import _asks_for_token, examine, gpus, nodes_of_ray, token

HERE = (platform.python_version(), bisieve.__version__)


def test_a_machine_without_gpus_trains_on_cpus() -> None:
    (found,) = examine(DoctorTargets())
    assert (found.name, found.state) == ("gpu", "ok")
    assert "none on this machine" in found.found


def test_gpus_without_bf16_are_a_warning() -> None:
    assert gpus(["H100", "H100"], bf16=True).found == "2 GPUs: H100; bf16"
    assert gpus(["V100"], bf16=False).state == "warning"


def test_nodes_with_other_versions_are_named() -> None:
    assert nodes_of_ray([("a", *HERE), ("b", *HERE)], cpus=16, gpus=2).found == "2 nodes, 16 CPUs, 2 GPUs"
    found = nodes_of_ray([("a", *HERE), ("b", "3.9.1", "0.0.1")], cpus=16, gpus=2)
    assert found.state == "failed"
    assert found.found.startswith("b has Python 3.9.1, bisieve 0.0.1;")


def test_a_ray_that_does_not_answer_fails_with_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # other tests share one
    *_, found = examine(DoctorTargets())
    assert (found.name, found.state) == ("ray", "failed")
    assert "127.0.0.1:1" in found.found


@pytest.mark.usefixtures("ray_cluster")
def test_every_node_of_a_ray_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    *_, found, lock = examine(DoctorTargets())
    cpus = max(4, os.cpu_count() or 1)
    assert (found.name, found.state, found.found) == ("ray", "ok", f"1 node, {cpus} CPUs, 0 GPUs")
    assert (lock.name, lock.state) == ("ray token", "ok")


def test_a_ray_that_asks_for_no_token_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # as the processes of such a Ray have it
    lock = token(_asks_for_token())
    assert (lock.name, lock.state) == ("ray token", "warning")
    assert lock.hint.startswith("start every node with RAY_AUTH_MODE=token")
