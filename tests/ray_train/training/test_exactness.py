"""Exactness: on any number of workers, and killed wherever, a run has one and the same loss curve."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
from ray.cloudpickle import register_pickle_by_value
from ray.util.placement_group import placement_group, remove_placement_group
from support import forked_workers
from support.runs import check_exact, start_driver
from support.stall import Stall, beside, wait_for

from bisieve.errors import TrainingError
from bisieve.index.selection import Selection
from ray_train.checkpoints import manager
from ray_train.checkpoints.state import is_whole
from ray_train.choices import Workers
from ray_train.config import TrainConfig
from ray_train.data.token_estimate import TokenEstimate
from ray_train.distributed.fault_tolerance import StopOnSigterm
from ray_train.registry.files import LEASE
from ray_train.training.driver import train

Settings = Callable[..., TrainConfig]

BIN = Path(sys.executable).parent
PATIENCE = 120  # seconds


def test_four_workers_learn_what_two_learn_whatever_tokens_they_are_balanced_by(
    settings: Settings, trained: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def skewed(selection: Selection, *others: Any) -> TokenEstimate:
        rows = np.arange(selection.rows.num_rows, dtype=np.int32)
        return TokenEstimate(100 * (rows % 3), rows**2 % 997)

    monkeypatch.setattr("ray_train.training.plan.token_estimate", skewed)
    config = settings(workers=Workers(4, 4), zero_stage=3)
    train(config)
    check_exact(config.output, trained.output, [4])


def test_a_worker_that_is_killed_in_an_upload_costs_no_rollout_changes_no_loss_and_leaves_nothing(
    settings: Settings, trained: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = tmp_path / "gate"
    monkeypatch.setattr("ray_train.distributed.fault_tolerance.StopOnSigterm", partial(HeldUpload, str(gate)))
    register_pickle_by_value(sys.modules[__name__])  # which no worker could import
    config = settings(zero_stage=2, pack_tokens=0, micro_batch=1)
    killed: list[Path] = []

    def kill() -> None:
        wait_for(lambda: gate.exists() and gate.stat().st_size > 0)
        worker, part = json.loads(gate.read_text())
        os.kill(worker, signal.SIGKILL)
        killed.append(Path(part))

    with beside(kill), pytest.raises(TrainingError, match="run the same command again"):
        train(config)
    folders = Path(config.output).glob("runs/*/checkpoint_*")
    torn = [folder for folder in folders if folder.is_dir() and not is_whole(str(folder))]
    assert len(torn) == 1
    train(config)
    check_exact(config.output, trained.output, [2, 2])
    assert not list(torn[0].iterdir())
    assert not killed[0].exists(), "what a worker has on its disk goes with the next one"


class HeldUpload(StopOnSigterm):
    """The first worker to upload of the second checkpoint stops in the midst of it, and says who it is."""

    def __init__(self, gate: str) -> None:
        self.gate = gate

    def after_init_train_context(self) -> None:
        super().after_init_train_context()
        gate, upload = Path(self.gate), manager.upload

        def held(file: Path, url: str) -> None:
            upload(file, url)
            above = Path(url.removeprefix("file://")).parents
            if any((folder / "checkpoint_manager_snapshot.json").exists() for folder in above):
                with suppress(FileExistsError), gate.open("x") as opened:
                    opened.write(json.dumps([os.getpid(), str(file.parent)]))
                    opened.flush()
                    time.sleep(PATIENCE)

        manager.upload = held


def test_a_run_goes_from_one_worker_to_two_and_back_when_its_driver_and_then_a_whole_node_are_killed(
    settings: Settings, trained: TrainConfig, stall: Stall, node: Callable[[], Any]
) -> None:
    # A data worker would wait for an image of the next step before it hands over what this one needs.
    held = partial(settings, image_root=stall.images, data_workers=0)
    config = held(zero_stage=3, workers=Workers(1, 1))
    driver = start_driver(config, RAY_ADDRESS=ray.get_runtime_context().gcs_address)
    with stall.run(config.output, driver.kill):
        assert driver.wait(PATIENCE) == -signal.SIGKILL
    assert Path(config.output, LEASE).exists()

    config = held(zero_stage=2, workers=Workers(2, 2))
    with (
        node() as kill_node,
        stall.run(config.output, kill_node),
        pytest.raises(TrainingError, match="run the same command again"),
    ):
        train(config)

    train(held(zero_stage=1, workers=Workers(1, 1)))
    check_exact(config.output, trained.output, [1, 2, 1])


@pytest.fixture
def node(ray_cluster: None, free_ports: Callable[..., dict[str, int]]) -> Callable[[], Any]:
    """A second node beside the first one, of which but one CPU is left: two workers need both."""

    @contextmanager
    def second_node() -> Iterator[Callable[[], None]]:
        ports = free_ports(
            "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port",
            "metrics-export-port",
        )  # fmt: skip
        command = [
            sys.executable,
            forked_workers.__file__,
            "ray",
            "start",
            f"--address={ray.get_runtime_context().gcs_address}",
            "--block",
        ]
        command += ["--num-cpus=1", "--min-worker-port=0", "--max-worker-port=0"]
        command += [f"--{name}={port}" for name, port in ports.items()]
        environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
        taken = placement_group([{"CPU": ray.cluster_resources()["CPU"] - 1}])
        assert taken.wait(PATIENCE)
        second = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)

        def kill() -> None:
            if second.poll() is None:
                for process in [*psutil.Process(second.pid).children(recursive=True), second]:
                    process.kill()
                second.wait()

        try:
            wait_for(lambda: len([one for one in ray.nodes() if one["Alive"]]) == 2)
            yield kill
        finally:
            kill()
            remove_placement_group(taken)

    return second_node
