"""A run that learns that its machine will be taken away is saved, ends with its own exit code, and goes on
when it is started again; and a run of which a rank hangs is ended.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.cloudpickle import register_pickle_by_value
from support.runs import check_learned_the_same, last_checkpoint, worker_pids

from bisieve.errors import PreemptedError, TrainingError
from ray_train.checkpoints.state import read_cursor
from ray_train.choices import workers
from ray_train.config import TrainConfig
from ray_train.distributed import fault_tolerance, heartbeat
from ray_train.distributed.fault_tolerance import PreemptionState, StopOnSigterm, forward_signals
from ray_train.training.driver import train

Settings = Callable[..., TrainConfig]
Act = Callable[[], None]


@pytest.fixture
def once_two_are_present(monkeypatch: pytest.MonkeyPatch) -> Callable[[Act], None]:
    """Does something as soon as two ranks of the next run have been heard of."""
    boards: list[Any] = []
    shown_board = heartbeat.shown_board

    @contextmanager
    def kept(*asked: Any) -> Iterator[Any]:
        with shown_board(*asked) as mine:
            boards.append(mine)
            yield mine

    monkeypatch.setattr(heartbeat, "shown_board", kept)

    def wait(act: Act) -> None:
        while not boards or ray.get(boards[-1].present.remote()) < 2:
            time.sleep(0.05)
        act()

    def start(act: Act) -> None:
        boards.clear()
        threading.Thread(target=wait, args=(act,), daemon=True).start()

    return start


class NoticeAtOnce(StopOnSigterm):
    """One worker gets SIGTERM before its first step: from outside it might come after the last one."""

    def __init__(self, once: str) -> None:
        self.once = once

    def after_init_train_context(self) -> None:
        super().after_init_train_context()
        with suppress(FileExistsError), open(self.once, "x"):
            os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_at_a_worker_saves_the_run_and_the_same_command_goes_on(
    settings: Settings,
    trained: TrainConfig,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    s3: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """At the driver it does the same: test_group_signals.py."""
    config = settings(checkpoint_every=100, workers=workers("1-2"), output=f"{s3}/preempted/output")
    monkeypatch.setattr(fault_tolerance, "StopOnSigterm", partial(NoticeAtOnce, str(tmp_path / "once")))
    register_pickle_by_value(sys.modules[__name__])  # which no worker could import
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(PreemptedError, match=r"stopped after step [1-7] of 8 with a checkpoint") as stopped:
        train(replace(config, restart=True))
    assert stopped.value.exit_code == 143
    assert "again without --restart: it goes on" in str(stopped.value)
    assert handlers == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    step = read_cursor(last_checkpoint(config.output)).step
    capsys.readouterr()
    train(config)
    shown = capsys.readouterr().out
    assert "on 1-2 workers" in shown
    assert f"resumed at step {step} of 8" in shown
    check_learned_the_same(config.output, trained.output)


def test_a_rank_that_hangs_is_named_and_ends_the_run(
    settings: Settings, once_two_are_present: Callable[[Act], None], ray_cluster: None
) -> None:
    stopped: list[int] = []

    def stop() -> None:
        stopped.append(worker_pids()[-1])
        os.kill(stopped[0], signal.SIGSTOP)

    once_two_are_present(stop)
    named = r"within 5 s; found rank \d on .*, last heard of ([3-9]|\d\d+) s ago; look at .*--stuck-after"
    try:
        with pytest.raises(TrainingError, match=named):
            train(settings(stuck_after=5.0, storage_budget=1, epochs=500))
    finally:
        with suppress(ProcessLookupError):  # Ray has ended it
            os.kill(stopped[0], signal.SIGKILL)


class Board:
    """A board without an actor; ``hears`` is whether a rank is there."""

    def __init__(self, hears: bool) -> None:
        self.asked = 0
        self.stop = SimpleNamespace(remote=self._stop)
        self.hears = hears

    def _stop(self) -> bool:
        self.asked += 1
        return self.hears


@pytest.mark.parametrize(("hears", "signals"), [(True, 2), (False, 1)])
def test_sigterm_that_nobody_hears_and_a_second_one_end_the_command_at_once(
    hears: bool, signals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    board = Board(hears)
    sent = []

    def insist() -> None:
        with forward_signals(board, "run the same command again"):
            while True:
                sent.append(signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.01)

    with pytest.raises(PreemptedError, match="run the same command again") as ended:
        insist()
    assert ended.value.exit_code == 143
    assert (len(sent), board.asked) == (signals, 1)


def test_other_errors_pass_through() -> None:
    with pytest.raises(TrainingError), forward_signals(Board(True), "again"):
        raise TrainingError("a", "b", "c")


@pytest.mark.parametrize(
    ("number", "word", "code"), [(signal.SIGTERM, "SIGTERM", 143), (signal.SIGINT, "Ctrl-C", 130)]
)
def test_a_saved_run_names_the_signal_that_stopped_it(
    number: int, word: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    with forward_signals(Board(True), "again") as asked:
        os.kill(os.getpid(), number)
    error = asked.named(fault_tolerance.preempted(3, 8, "again"))
    assert f"{word}; stopped after step 3 of 8 with a checkpoint" in str(error)
    assert error.exit_code == code


def test_all_ranks_do_what_one_has_heard() -> None:
    draining = False
    notices = PreemptionState(lambda: draining)
    assert notices.counts() == {"stop": 0, "draining": 0}
    sums = {"loss": 1.0, **notices.counts()}
    notices.update(sums)
    assert (sums, notices.save, notices.stop) == ({"loss": 1.0}, False, False)
    draining = True
    assert notices.counts() == {"stop": 0, "draining": 1}
    notices.update({"stop": 0.0, "draining": 1.0})
    assert (notices.save, notices.stop) == (True, False)
    notices.update({"stop": 0.0, "draining": 1.0})
    assert not notices.save, "a node that is on its way out is saved from once"
    notices.update({"stop": 1.0, "draining": 1.0})
    assert (notices.save, notices.stop) == (True, True)


def test_sigterm_at_a_worker_is_a_notice_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault_tolerance, "_stop_requested", threading.Event())
    before = signal.getsignal(signal.SIGTERM)
    try:
        fault_tolerance.StopOnSigterm().after_init_train_context()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        assert fault_tolerance._stop_requested.is_set()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
