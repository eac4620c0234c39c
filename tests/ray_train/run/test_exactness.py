"""Exactness: on any number of workers, and killed wherever, a run has one and the same loss curve."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ROLLOUTS, Corpus, check_learned_the_same, last_checkpoint

from bisieve.errors import TrainingError
from ray_train.checkpoints.checkpoint import read_cursor, read_sample_logs
from ray_train.config import TrainConfig
from ray_train.run.launch import train
from ray_train.workers import Workers

Settings = Callable[..., TrainConfig]

BIN = Path(sys.executable).parent
TOTAL = sum(ROLLOUTS.values())
STEPS = -(-TOTAL // 6)
PATIENCE = 240  # seconds


def check_exact(output: str, reference: str, starts: int) -> None:
    """The run, started ``starts`` times, learned what the reference did, from every rollout once."""
    check_learned_the_same(output, reference)
    checkpoint = last_checkpoint(output)
    assert read_cursor(checkpoint).step == STEPS
    lines = read_sample_logs(checkpoint)
    assert Counter(row for line in lines for row in line["rows"]) == Counter(range(TOTAL))
    rollouts = Counter(rollout for line in lines for rollout in line["rollout_ids"])
    assert len(rollouts) == TOTAL
    assert set(rollouts.values()) == {1}
    logs = [file.name for file in Path(checkpoint.removeprefix("file://"), "samples").iterdir()]
    assert len({name.split("-")[1] for name in logs}) == starts


def test_four_workers_learn_what_two_learn(settings: Settings, trained: TrainConfig) -> None:
    config = settings(workers=Workers(4, 4), zero_stage=3)
    train(config)
    check_exact(config.output, trained.output, starts=1)


def test_a_killed_worker_costs_no_rollout_and_changes_no_loss(
    settings: Settings, trained: TrainConfig, corpus: Corpus, stall: "Stall"
) -> None:
    config = settings(max_failures=2, zero_stage=2, pack_tokens=0, micro_batch=1, image_root=stall.images)
    with stall.run(config.output, kill_a_worker):
        train(config)
    check_exact(config.output, trained.output, starts=2)


def kill_a_worker() -> None:
    workers = [process for process in psutil.Process().children(recursive=True) if _is_worker(process)]
    workers[-1].send_signal(signal.SIGKILL)


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "ray::RayTrainWorker" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def test_a_run_whose_driver_and_then_a_whole_node_are_killed_ends_on_one_worker_as_if_nothing_had_been(
    settings: Settings, trained: TrainConfig, stall: "Stall", node: Callable[[], Any]
) -> None:
    config = settings(image_root=stall.images, zero_stage=3, workers=Workers(2, 2))

    driver = start_driver(config)
    with stall.run(config.output, driver.kill):
        assert driver.wait(PATIENCE) == -signal.SIGKILL

    config = settings(image_root=stall.images, zero_stage=2, workers=Workers(2, 2))
    with (
        node() as kill_node,
        stall.run(config.output, kill_node),
        pytest.raises(TrainingError, match="run the same command again"),
    ):
        train(config)

    train(settings(image_root=stall.images, zero_stage=1, workers=Workers(1, 1)))
    check_exact(config.output, trained.output, starts=3)


def start_driver(config: TrainConfig) -> "subprocess.Popen[bytes]":
    """``bisieve train`` in a process of its own, on the Ray of the tests."""
    import dataclasses

    import ray

    words = []
    for item in dataclasses.fields(config):
        if item.type is not bool:
            words += [f"--{item.name.replace('_', '-')}", str(getattr(config, item.name))]
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    code = "import sys; from bisieve.cli import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", code, "train", *words], env=environment, stdout=subprocess.DEVNULL
    )


@pytest.fixture
def node(ray_cluster: None, free_ports: Callable[..., dict[str, int]]) -> Callable[[], Any]:
    """A second node beside the first one, of which but one CPU is left: two workers need both."""

    @contextmanager
    def second_node() -> Iterator[Callable[[], None]]:
        import ray
        from ray.util.placement_group import placement_group, remove_placement_group

        ports = free_ports(
            "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port",
            "metrics-export-port",
        )  # fmt: skip
        command = [str(BIN / "ray"), "start", f"--address={ray.get_runtime_context().gcs_address}", "--block"]
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
            _wait_for(lambda: len([one for one in ray.nodes() if one["Alive"]]) == 2)
            yield kill
        finally:
            kill()
            remove_placement_group(taken)

    return second_node


class Stall:
    """Holds a run up at a random step: an image that it needs there becomes a pipe that nobody writes to."""

    def __init__(self, corpus: Corpus, reference: TrainConfig, folder: Path, seed: int) -> None:
        self.images, self._folder, self._random = str(folder), folder, random.Random(seed)
        for file in Path(corpus.images).iterdir():
            os.link(file, folder / file.name)
        self._first_use: dict[str, int] = {}
        for line in sorted(
            read_sample_logs(last_checkpoint(reference.output)), key=lambda line: line["step"]
        ):
            for rollout in line["rollout_ids"]:
                source, offset = rollout.rsplit("-", 1)
                with (corpus.shards / f"{source}.jsonl").open("rb") as shard:
                    shard.seek(int(offset))
                    self._first_use.setdefault(json.loads(shard.readline())["image"], line["step"])
        self._earliest = 2

    @contextmanager
    def run(self, output: str, kill: Callable[[], None]) -> Iterator[None]:
        """Kills the run that starts inside, at a step later than that of the last time."""
        later = [(step, name) for name, step in self._first_use.items() if step >= self._earliest]
        step, name = self._random.choice([one for one in later if one[0] <= self._earliest + 2] or later)
        self._earliest = step // 2 * 2 + 2  # behind a checkpoint that only the next run writes
        print(f"killed at step {step} of {STEPS}")
        failed: list[BaseException] = []

        def work() -> None:
            try:
                self._kill_at(Path(output), name, step, kill, time.time())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        yield
        thread.join()
        assert not failed, failed

    def _kill_at(self, output: Path, name: str, step: int, kill: Callable[[], None], since: float) -> None:
        # The driver has looked for the images when Ray writes this file, and no worker is there yet.
        _wait_for(
            lambda: any(f.stat().st_mtime > since for f in output.glob("runs/*/.validate_storage_marker"))
        )
        image, aside = self._folder / name, self._folder / "aside"
        image.rename(aside)
        os.mkfifo(image)
        _wait_for(lambda: _committed_step(output) >= step // 2 * 2)
        aside.rename(image)
        kill()


def _committed_step(output: Path) -> int:
    try:
        return read_cursor(last_checkpoint(str(output))).step
    except Exception:  # none yet, or just being replaced
        return 0


def _wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def stall(corpus: Corpus, trained: TrainConfig, tmp_path: Path) -> Stall:
    folder = tmp_path / "images"
    folder.mkdir()
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return Stall(corpus, trained, folder, seed)
