"""What a run shows while it goes on: lines on the driver's terminal, curves for TensorBoard."""

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from bisieve import storage
from bisieve.errors import StorageError
from ray_train.attendance import Attendance
from ray_train.publish import upload


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
    """A `Board` whose lines are printed as they come, as long as the block runs."""
    board: Any = ray.remote(num_cpus=0)(Board).remote()
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


class Curves:
    """TensorBoard events, written where they belong on a disk, or uploaded with each checkpoint."""

    def __init__(self, url: str, first_step: int, say: Callable[[str], None]) -> None:
        from tensorboardX import SummaryWriter

        fs, path = storage.open_filesystem(url)
        self._url = None if "file" in fs.protocol else url
        self._folder = Path(tempfile.mkdtemp(prefix="bisieve-curves-") if self._url else path)
        with storage.storage_errors(url):
            self._folder.mkdir(parents=True, exist_ok=True)
        self._say = say
        self._writer = SummaryWriter(str(self._folder), purge_step=first_step, write_to_disk=True)

    def add(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def commit(self) -> None:
        """Makes all that was added readable at the URL.

        A store that refuses is told of and no more: only one rank writes curves, and the others would wait
        for it in their next collective.
        """
        self._writer.flush()
        try:
            for file in self._folder.iterdir() if self._url else ():
                upload(file, storage.join(str(self._url), file.name))
        except StorageError as error:
            self._say(f"curves were not uploaded: {error}")

    def close(self) -> None:
        self._writer.close()
        self.commit()
        if self._url:
            shutil.rmtree(self._folder, ignore_errors=True)
