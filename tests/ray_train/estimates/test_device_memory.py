"""When the memory of a cluster's devices is compared with what a run needs.

Where nodes have GPUs, Ray is replaced, since no machine of the tests has any.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.runs import resolved

from bisieve.errors import TrainingError
from ray_train.choices import Workers
from ray_train.config import TrainConfig
from ray_train.estimates.device_memory import asked_before_workers, asked_with_workers, device_memory
from ray_train.training import driver

JOB, ADDRESS = "RAY_JOB_CONFIG_JSON_ENV_VAR", "RAY_ADDRESS"


@pytest.fixture
def in_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the environment that Ray gives to the command of a job."""
    monkeypatch.setenv(ADDRESS, "10.0.0.1:6379")
    monkeypatch.setenv(JOB, "{}")


def asked(config: TrainConfig) -> tuple[bool, bool]:
    return asked_before_workers(config), asked_with_workers(config)


def test_nodes_are_asked_when_a_run_is_planned_and_in_a_job_when_its_workers_are_about_to_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (ADDRESS, JOB):
        monkeypatch.delenv(name, raising=False)
    config = resolved()
    assert asked(config) == (False, False), "no cluster"
    monkeypatch.setenv(ADDRESS, "auto")
    assert asked(config) == (True, False)
    monkeypatch.setenv(JOB, "{}")
    assert asked(config) == (False, True)
    for option in ({"device": "cpu"}, {"device_memory": 80.0}, {"dry_run": True}):
        assert asked(replace(config, **option)) == (False, False)


@pytest.mark.usefixtures("in_a_job")
def test_until_then_a_job_says_that_the_memory_is_not_known_yet() -> None:
    assert device_memory(resolved("--device", "gpu", "--workers", "64")) == (
        0.0, "GPU memory not known yet: checked before the workers start",
    )  # fmt: skip


@pytest.mark.usefixtures("in_a_job")
def test_a_job_whose_model_the_gpus_cannot_hold_ends_before_any_worker_starts(
    internvl_8b: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [{"Alive": True, "Resources": {"GPU": 2.0, "accelerator_type:H100": 1.0}}]

    @contextmanager
    def connected(workers: int) -> Iterator[Any]:
        yield SimpleNamespace(nodes=lambda: nodes)  # all else that is asked of it is an AttributeError

    monkeypatch.setattr(driver, "cluster", connected)
    config = resolved("--backbone", str(internvl_8b), "--workers", "2", "--zero-stage", "3")
    rest: Any = (None, {}, {}, "run", None)
    with pytest.raises(TrainingError, match=r"77\.8 GiB of memory a device.* on 2 workers; found 74\.5 GiB"):
        driver._fit(config, *rest)
    with pytest.raises(AttributeError, match="cluster_resources"):
        driver._fit(replace(config, workers=Workers(64, 64)), *rest)
    assert capsys.readouterr().out == ""

    nodes[0]["Resources"] = {"GPU": 2.0, "accelerator_type:A100": 1.0}
    with pytest.raises(AttributeError):
        driver._fit(config, *rest)
    assert "(the cluster has A100), not checked" in capsys.readouterr().out
