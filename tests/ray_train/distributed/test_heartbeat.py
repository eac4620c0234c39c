"""Who holds up the others, and what the driver shows of its board: the actor is an object of this process."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from support.stall import wait_for

from bisieve import console
from ray_train.distributed import fault_tolerance, heartbeat
from ray_train.distributed.heartbeat import Beat, Board, HeartbeatMonitor, shown_board


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

    class Heard:
        beat = Method(lambda beat: heard.append(beat) or len(heard) > 1)
        leave = Method(lambda rank: left.set())

    monkeypatch.setattr(ray, "get", lambda answer: answer)
    monkeypatch.setattr(fault_tolerance, "request_stop", asked.set)
    monkeypatch.setitem(wait_in_our_code.__globals__, "__name__", "ray_train.data.loader")
    beating = heartbeat.Pulse(Heard(), 3, stuck_after=0.2)
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


class Actor:
    """Ray's handle of a `Board`: each method has ``remote``, whose answer is that of the method."""

    def __init__(self) -> None:
        self.board = Board()

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self.board, name))


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    here = SimpleNamespace(get_node_id=lambda: "0" * 56)
    of_ray = SimpleNamespace(
        get_runtime_context=lambda: here, get=lambda answer: answer, kill=lambda actor: None,
        remote=lambda **_: lambda kind: SimpleNamespace(options=lambda **_: SimpleNamespace(remote=Actor)),
    )  # fmt: skip
    monkeypatch.setattr(heartbeat, "ray", of_ray)


@pytest.mark.usefixtures("no_ray")
def test_lines_and_counts_are_shown_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "PROGRESS_EVERY", 0.0)
    with shown_board("scoring", 1200, lines=True, every=0.01) as shown:
        shown.put.remote("scorer: try 2")
        shown.count.remote(1000)
        said = ""
        while "1,000" not in said:
            said += capsys.readouterr().out
            time.sleep(0.01)
        shown.put.remote("the last line")
        shown.count.remote(200)
    said = (said + capsys.readouterr().out).splitlines()
    assert said[:2] == ["scorer: try 2", "scoring: 1,000 of 1,200"]
    assert "the last line" in said
    assert said[-1] == "scoring: 1,200 of 1,200"


@pytest.mark.usefixtures("no_ray")
def test_a_quiet_command_shows_the_warnings_of_its_ranks_but_not_their_steps(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with console.quiet(True), shown_board("training", 8, every=0.01) as shown:
        shown.put_status.remote("step 4/8")
        shown.put.remote("rank 1: upload: try 2")
    assert capsys.readouterr().out == "rank 1: upload: try 2\n"


@pytest.mark.usefixtures("no_ray")
def test_steps_that_were_made_are_those_of_the_rank_that_is_the_furthest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    mine = Board()
    assert mine.take() == ([], 0)
    mine.beat(Beat(0, "a", 1, None, "load"))
    assert mine.take() == ([], 0)
    mine.beat(Beat(0, "a", 9, 4, "step"))
    mine.beat(Beat(1, "b", 8, 3, "step"))
    assert mine.take() == ([], 4)
    with shown_board("training", 8, every=0.01) as shown:
        shown.beat.remote(Beat(0, "a", 9, 4, "step"))
        time.sleep(0.05)
    assert capsys.readouterr().out == "", "training has lines of its own"


def test_the_process_of_the_board_imports_neither_torch_nor_ray_train() -> None:
    names = "import sys, ray_train.distributed.heartbeat; print({'torch', 'ray.train'} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", names], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"
