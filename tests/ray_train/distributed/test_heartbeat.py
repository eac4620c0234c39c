"""Who holds up the others."""

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import ray
from support.stall import wait_for

from bisieve.errors import TrainingError
from ray_train.distributed import heartbeat
from ray_train.distributed.board import Beat, HeartbeatMonitor


class Clock:
    """Time that goes on when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def beat(rank: int, meetings: int, step: int | None = 7, waits: bool = False) -> Beat:
    return Beat(rank, f"host{rank}", meetings, step, "ray_train.data.loader.take, line 141", waits)


def test_a_rank_that_does_not_come_to_the_meeting_is_named_with_its_node_and_step(clock: Clock) -> None:
    ranks = HeartbeatMonitor(clock)
    for _ in range(40):
        for rank in range(4):
            ranks.beat(beat(rank, meetings=30 - (rank == 2)))
        assert ranks.stuck(30.0) is None or clock.now - 100 >= 30
        clock.now += 1
    assert ranks.stuck(30.0) == (
        "rank 2 on host2 at step 7, in ray_train.data.loader.take, line 141, last heard of 1 s ago"
    )


def test_a_rank_that_is_no_longer_heard_is_named_whatever_it_has_come_to(clock: Clock) -> None:
    ranks = HeartbeatMonitor(clock)
    ranks.beat(beat(1, meetings=9, step=None))
    for _ in range(40):
        ranks.beat(beat(0, meetings=3))
        clock.now += 1
    found = ranks.stuck(30.0)
    assert found is not None
    assert found.startswith("rank 1 on host1 before the first step")
    assert found.endswith("last heard of 40 s ago")


def test_all_ranks_of_a_lost_node_are_named_those_that_waited_for_others_too(clock: Clock) -> None:
    ranks = HeartbeatMonitor(clock)
    ranks.beat(replace(beat(1, meetings=3), waits=True))
    ranks.beat(beat(2, meetings=3))
    for _ in range(40):
        ranks.beat(beat(0, meetings=3))
        clock.now += 1
    found = ranks.stuck(30.0)
    assert found is not None
    assert [told.split()[1] for told in found.split("; ")] == ["1", "2"]


def test_of_ranks_that_gave_way_to_others_nothing_is_waited_for(clock: Clock) -> None:
    ranks = HeartbeatMonitor(clock)
    ranks.beat(beat(3, meetings=9))
    clock.now += 100
    ranks.forget()
    assert ranks.stuck(30.0) is None
    for _ in range(40):
        ranks.beat(beat(0, meetings=3))
        clock.now += 1
    found = ranks.stuck(30.0)
    assert found is not None
    assert found.startswith("rank 0 ")
    assert "rank 3" not in found


@pytest.mark.parametrize(
    ("waits", "named"),
    [
        ([False, False, False], ["host0", "host1"]),
        ([True, True, True], ["host0", "host1"]),
        ([True, False, True], ["host1"]),
        ([True, True, False], ["host0", "host1"]),
    ],
    ids=["none waits", "all wait", "one does not", "one that is ahead does not"],
)
def test_of_ranks_that_came_equally_far_those_are_named_that_do_not_wait_in_a_collective_else_all(
    waits: list[bool], named: list[str], clock: Clock
) -> None:
    ranks = HeartbeatMonitor(clock)
    for _ in range(40):
        for rank, meetings in enumerate((3, 3, 4)):
            ranks.beat(beat(rank, meetings, waits=waits[rank]))
        clock.now += 1
    found = ranks.stuck(30.0)
    assert found is not None
    assert [word for word in found.split() if word.startswith("host")] == named


def test_who_goes_on_is_not_stuck_and_who_is_done_is_not_missed(clock: Clock) -> None:
    ranks = HeartbeatMonitor(clock)
    assert ranks.stuck(0.0) is None, "nobody has come yet"
    for meetings in range(100):
        ranks.beat(beat(0, meetings))
        clock.now += 29
        assert ranks.stuck(30.0) is None
    ranks.leave(0)
    clock.now += 1000
    assert ranks.stuck(30.0) is None


def test_all_hear_that_they_are_to_stop_and_whoever_asks_hears_whether_one_is_there(clock: Clock) -> None:
    ranks = HeartbeatMonitor(clock)
    assert not ranks.stop()
    ranks = HeartbeatMonitor(clock)
    assert not ranks.beat(beat(0, 1))
    assert ranks.stop()
    assert ranks.beat(beat(0, 1))
    clock.now += 60
    assert not ranks.stop()


def wait_in_our_code(holds: Callable[[], bool]) -> None:
    wait_for(holds)


def test_a_rank_that_hangs_still_tells_where(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Beat] = []
    left = threading.Event()
    asked = threading.Event()

    class Method:
        def __init__(self, call: object) -> None:
            self.remote = call

    class Board:
        beat = Method(lambda beat: heard.append(beat) or len(heard) > 1)
        leave = Method(lambda rank: left.set())

    monkeypatch.setattr(ray, "get", lambda answer: answer)
    monkeypatch.setattr(heartbeat.preemption, "request_stop", asked.set)
    monkeypatch.setitem(wait_in_our_code.__globals__, "__name__", "ray_train.data.loader")
    beating = heartbeat.Pulse(Board(), 3, stuck_after=0.2)
    beating.step = 5
    place = "ray_train.data.loader.wait_in_our_code, line"
    wait_in_our_code(lambda: any(each.step == 5 and place in each.place for each in heard))
    before = heard[-1].collectives_entered
    beating.mark_progress()
    wait_in_our_code(lambda: heard[-1].collectives_entered == before + 1)
    beating.end()
    assert left.wait(5)
    assert asked.is_set(), "the answer to a beat may be that all are to stop"
    assert {each.rank for each in heard} == {3}
    assert heard[-1].collectives_entered == before + 1, "what a rank does alone is progress, too"


def test_the_watch_ends_the_run_with_the_ranks_name(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    ranks = HeartbeatMonitor(clock)
    ranks.beat(beat(0, 5))
    ranks.beat(beat(1, 4))

    class Board:
        class stuck:  # noqa: N801
            remote = ranks.stuck

    monkeypatch.setattr(ray, "get", lambda answer: answer)
    watch = heartbeat.StuckRankWatchdog(Board(), 30.0, "run it again")
    watch.after_worker_group_poll_status(None)
    clock.now += 31
    ranks.beat(beat(0, 5))
    ranks.beat(beat(1, 4))
    with pytest.raises(
        TrainingError, match=r"within 30 s; found rank 1 on host1 at step 7.*--stuck-after.*it again"
    ):
        watch.after_worker_group_poll_status(None)
