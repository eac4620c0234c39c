"""Signals at the whole process group, as Slurm's scancel, systemd and a terminal send them, and kill -9.

Each command runs in a group of its own, and none of its processes may outlive it.
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.runs import flags, last_checkpoint, small_run
from support.small_corpus import Corpus

from ray_train.checkpoints.state import read_cursor

pytestmark = pytest.mark.ray  # each command starts its own

ROOT = Path(__file__).parents[3]
GRACE = 30  # seconds from SIGTERM to SIGKILL, as of Kubernetes and Slurm


def _called(process: psutil.Process) -> str:
    """Return its command line; "" if it has ended since it was found."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # a zombie is one, too
        return ""


class Command:
    """A command in a process group of its own; its processes carry a marker in their environment."""

    def __init__(self, script: str, options: dict[str, Any]) -> None:
        self.marker = f"GROUP_SIGNALS={uuid.uuid4()}"
        name, _, value = self.marker.partition("=")
        self.said = ""
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / script), *flags(options)],
            env={key: one for key, one in os.environ.items() if key != "RAY_ADDRESS"} | {name: value},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def wait_for(self, title: str) -> None:
        """Return as soon as one of its processes is called ``title``."""
        deadline = time.monotonic() + 300
        while not any(title in _called(one) for one in self.living()):
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def wait_for_line(self, text: str) -> None:
        """Return as soon as it has printed a line with ``text``."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if text in line:
                return
        raise AssertionError(self.process.communicate())

    def living(self) -> list[psutil.Process]:
        """Its processes that have not ended."""
        return [one for one in psutil.process_iter() if self._is_ours(one)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return self.marker.encode() in Path(f"/proc/{process.pid}/environ").read_bytes()
        except OSError:  # another user's, or gone
            return False

    def ended(self) -> tuple[int, str, str]:
        """Return its exit code, stdout and stderr; no process may be left within the grace."""
        deadline = time.monotonic() + GRACE
        said, errors = self.process.communicate(timeout=GRACE)
        while left := self.living():
            assert time.monotonic() < deadline, [_called(one) for one in left]
            time.sleep(0.2)
        return self.process.returncode, self.said + said, errors


@pytest.fixture
def started() -> Iterator[Any]:
    """Starts commands, and ends what is left of them."""
    commands: list[Command] = []

    def start(script: str, **options: Any) -> Command:
        commands.append(Command(script, options))
        return commands[-1]

    yield start
    for command in commands:
        for process in command.living():
            process.kill()


def test_a_run_saves_at_sigterm_and_at_ctrl_c_and_nothing_outlives_a_killed_one(
    started: Any, corpus: Corpus, internvl: Path, tmp_path: Path
) -> None:
    output = str(tmp_path / "model")
    options = {**small_run(corpus, internvl, output), "epochs": 500, "checkpoint_every": 10**6}
    options["workers"] = 1  # all ranks do what one has heard: test_preemption.py
    step = 0
    for number, word, code in ((signal.SIGTERM, "SIGTERM", 143), (signal.SIGINT, "Ctrl-C", 130)):
        run = started("ray_train/train_mprm.py", **options)
        run.wait_for_line(f" {step + 2}/")
        os.killpg(run.process.pid, number)
        returned, said, errors = run.ended()
        assert returned == code, (said, errors)
        (line,) = errors.splitlines()
        assert f"found {word}; stopped after step" in line
        assert "with a checkpoint; run the same command again: it goes on from there" in line
        assert (f"resumed at step {step} of" in said) == (step > 0)
        assert read_cursor(last_checkpoint(output)).step > step
        step = read_cursor(last_checkpoint(output)).step
    run = started("ray_train/train_mprm.py", **options)
    run.wait_for("ray::RayTrainWorker")
    run.process.kill()
    assert run.ended()[0] == -signal.SIGKILL


def test_an_evaluation_ends_at_sigterm_in_one_line(
    started: Any, corpus: Corpus, internvl: Path, tmp_path: Path
) -> None:
    evaluation = started(
        "ray_train/evaluate_mprm.py", model=internvl, benchmark=corpus.benchmark, image_root=corpus.images,
        output=tmp_path / "metrics", max_tiles=1, workers=1,
    )  # fmt: skip
    evaluation.wait_for("ray::MapWorker")
    os.killpg(evaluation.process.pid, signal.SIGTERM)
    returned, _, errors = evaluation.ended()
    assert returned == 143
    assert errors.splitlines() == ["bisieve: terminated; nothing half-written was made visible"]
