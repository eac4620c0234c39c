"""What the driver shows of its board, with an actor that is an object of this process."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from bisieve import console
from ray_train.distributed import board
from ray_train.distributed.board import Beat, Board, shown_board


class Actor:
    """Ray's handle of a `Board`: each method has ``remote``, whose answer is that of the method."""

    def __init__(self) -> None:
        self.board = Board()

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self.board, name))


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    here = SimpleNamespace(get_node_id=lambda: "0" * 56)
    of_ray = SimpleNamespace(
        get_runtime_context=lambda: here, get=lambda answer: answer, kill=lambda actor: None,
        remote=lambda **_: lambda kind: SimpleNamespace(options=lambda **_: SimpleNamespace(remote=Actor)),
    )  # fmt: skip
    monkeypatch.setattr(board, "ray", of_ray)


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


def test_a_quiet_command_shows_the_warnings_of_its_ranks_but_not_their_steps(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with console.quiet(True), shown_board("training", 8, every=0.01) as shown:
        shown.put_status.remote("step 4/8")
        shown.put.remote("rank 1: upload: try 2")
    assert capsys.readouterr().out == "rank 1: upload: try 2\n"


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
