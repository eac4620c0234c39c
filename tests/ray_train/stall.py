"""A training run that is held up at a step of choice, to be killed there."""

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from conftest import Corpus, last_checkpoint

from ray_train.checkpoints.checkpoint import read_cursor, read_sample_logs
from ray_train.config import TrainConfig

PATIENCE = 150  # seconds


class Stall:
    """Holds a run up at a random step: an image that it needs there becomes a pipe that nobody writes to."""

    def __init__(self, corpus: Corpus, reference: TrainConfig, folder: Path, seed: int) -> None:
        self.images, self._folder, self._random = str(folder), folder, random.Random(seed)
        for file in Path(corpus.images).iterdir():
            os.link(file, folder / file.name)
        self._uses: dict[str, list[int]] = {}  # the steps that need an image
        for line in sorted(
            read_sample_logs(last_checkpoint(reference.output)), key=lambda line: line["step"]
        ):
            for rollout in line["rollout_ids"]:
                source, offset = rollout.rsplit("-", 1)
                with (corpus.shards / f"{source}.jsonl").open("rb") as shard:
                    shard.seek(int(offset))
                    self._uses.setdefault(json.loads(shard.readline())["image"], []).append(line["step"])
        self._resumed = 0

    @contextmanager
    def run(self, output: str, kill: Callable[[], None]) -> Iterator[None]:
        """Kills the run that starts inside, at a step later than that of the last time."""
        earliest = self._resumed + 2  # behind a checkpoint that only this run writes
        firsts = {
            name: min((step for step in steps if step >= self._resumed), default=0)
            for name, steps in self._uses.items()
        }
        later = [(step, name) for name, step in firsts.items() if step >= earliest]
        step, name = self._random.choice([one for one in later if one[0] <= earliest + 1] or later)
        self._resumed = step // 2 * 2
        print(f"killed at step {step}")
        with beside(partial(self._kill_at, Path(output), name, step, kill, time.time())):
            yield

    def _kill_at(self, output: Path, name: str, step: int, kill: Callable[[], None], since: float) -> None:
        # The driver has looked for the images when Ray writes this file, and no worker is there yet.
        wait_for(
            lambda: any(f.stat().st_mtime > since for f in output.glob("runs/*/.validate_storage_marker"))
        )
        image, aside = self._folder / name, self._folder / "aside"
        image.rename(aside)
        os.mkfifo(image)
        wait_for(lambda: _committed_step(output) >= step // 2 * 2)
        aside.rename(image)
        kill()


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Does ``work`` in a thread while the block runs."""
    failed: list[BaseException] = []

    def attempt() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=attempt, daemon=True)  # a test that failed does not wait for it
    thread.start()
    yield
    thread.join()
    assert not failed, failed


def _committed_step(output: Path) -> int:
    try:
        return read_cursor(last_checkpoint(str(output))).step
    except Exception:  # none yet, or just being replaced
        return 0


def wait_for(holds: Callable[[], bool]) -> None:
    """Looks again and again until it holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
