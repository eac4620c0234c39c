"""A failure that passes is tried again and said; a full disk ends the run at the first, a stuck rank at once.

Preemption: `test_preemption.py`.
"""

import errno
import logging
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.train.v2._internal.execution.failure_handling import FailureDecision
from ray.train.v2.api.config import FailureConfig
from ray.train.v2.api.exceptions import WorkerGroupError

from bisieve.errors import BisieveError, DiskError, StorageError, TrainingError
from bisieve.io.errors import storage_errors
from bisieve.io.retry import say_retry
from ray_train.distributed import fault_tolerance
from ray_train.distributed.heartbeat import Beat, HeartbeatMonitor


class Lines:
    """Stands for the board, which is an actor of Ray's: keeps what is put on it."""

    def __init__(self) -> None:
        self.put = self
        self.said: list[str] = []

    def remote(self, line: str) -> None:
        self.said.append(line)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Lines:
    monkeypatch.setattr(fault_tolerance.ray, "get", lambda reference: reference)
    return Lines()


def decided(policy: Any, error: Exception) -> FailureDecision:
    return policy.make_decision(WorkerGroupError("a worker failed", {0: error}))


def full_disk() -> BisieveError:
    with pytest.raises(DiskError) as caught, storage_errors("/x/y"):
        raise OSError(errno.ENOSPC, "No space left on device", "/x/y")
    return caught.value


@pytest.fixture
def heard(board: Lines) -> Iterator[list[str]]:
    """What the retries of a process are shown as, once it is said whose they are."""
    yield board.said
    fault_tolerance.show_retries(None, "")


def test_retries_of_a_worker_and_of_the_controller_are_shown_with_who_tries_again(
    board: Lines, heard: list[str]
) -> None:
    fault_tolerance.show_retries(board, "rank 1")
    say_retry("upload", 2, TimeoutError("no answer"), 0.5)
    fault_tolerance.ShownRetries(board).after_controller_start(None)
    say_retry("store", 3, ConnectionResetError("reset by peer"))
    warn = logging.getLogger("urllib3.connectionpool").warning
    warn("Connection pool is full, discarding connection")
    warn("Retrying (Retry(total=%d)) after connection broken by '%s'", 2, "refused")
    assert heard == [
        "rank 1: upload: try 2 in 0.5 s, after TimeoutError: no answer",
        "controller: store: try 3 now, after ConnectionResetError: reset by peer",
        "controller: Retrying (Retry(total=2)) after connection broken by 'refused'",
    ]


@pytest.mark.parametrize("pickled", [False, True])
def test_a_full_disk_is_not_tried_again(board: Lines, pickled: bool) -> None:
    error = pickle.loads(pickle.dumps(full_disk())) if pickled else full_disk()
    policy = fault_tolerance.FailurePolicy(FailureConfig(max_failures=3), board)
    assert decided(policy, error) == FailureDecision.RAISE
    assert board.said == []


def test_a_store_that_was_away_is_tried_again(board: Lines) -> None:
    policy = fault_tolerance.FailurePolicy(FailureConfig(max_failures=3), board)
    away = pickle.loads(pickle.dumps(StorageError("a response from the store", "503", "check the URL")))
    assert decided(policy, away) == FailureDecision.RETRY


def test_every_new_try_of_a_killed_worker_is_said_with_its_number_and_reason(board: Lines) -> None:
    policy = fault_tolerance.FailurePolicy(FailureConfig(max_failures=2), board)
    killed = TrainingError("a worker", "its process killed", "look at its memory")
    found = [decided(policy, killed) for _ in range(3)]
    assert found == [FailureDecision.RETRY, FailureDecision.RETRY, FailureDecision.RAISE]
    assert board.said == [
        f"retry {number} of at most 2: training goes on from its last checkpoint, after: its process killed"
        for number in (1, 2)
    ]


def test_the_watch_ends_the_run_with_the_ranks_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def beat(rank: int, meetings: int) -> Beat:
        return Beat(rank, f"host{rank}", meetings, 7, "ray_train.data.loader.take, line 141")

    now = 100.0
    ranks = HeartbeatMonitor(lambda: now)
    ranks.beat(beat(0, 5))
    ranks.beat(beat(1, 4))

    class Board:
        class stuck:  # noqa: N801
            remote = ranks.stuck

    monkeypatch.setattr(ray, "get", lambda answer: answer)
    watch = fault_tolerance.StuckRankWatchdog(Board(), 30.0, "run it again")
    watch.after_worker_group_poll_status(None)
    now += 31
    ranks.beat(beat(0, 5))
    ranks.beat(beat(1, 4))
    with pytest.raises(
        TrainingError, match=r"within 30 s; found rank 1 on host1 at step 7.*--stuck-after.*it again"
    ):
        watch.after_worker_group_poll_status(None)
