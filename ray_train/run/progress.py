"""What a run shows while it goes on: lines on the driver's terminal."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ray_train.run.attendance import Attendance


class Board(Attendance):
    """An actor that carries lines from the workers to the driver, without Ray's prefixes."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []

    def put(self, line: str) -> None:
        self._lines.append(line)

    def take(self) -> list[str]:
        lines, self._lines = self._lines, []
        return lines


@contextmanager
def shown_board(every: float = 0.5) -> Iterator[Any]:
    """A `Board` whose lines are printed as they come, as long as the block runs.

    It lives on the driver's node: the loss of another one must not take it along.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(num_cpus=0)(Board)
    board = actor.options(scheduling_strategy=here).remote()
    ended = threading.Event()

    def show() -> None:
        last = False
        while not last:
            last = ended.wait(every)
            for line in ray.get(board.take.remote()):
                print(line, flush=True)

    thread = threading.Thread(target=show, name="board", daemon=True)
    thread.start()
    try:
        yield board
    finally:
        ended.set()
        thread.join(timeout=10)
        ray.kill(board)
