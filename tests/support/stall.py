"""A training run that is held up at steps of choice, for something to happen to it there."""

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ray_train.checkpoints.state import read_cursor
from ray_train.config import TrainConfig
from support.runs import last_checkpoint
from support.sample_logs import read_sample_logs
from support.small_corpus import Corpus

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
    def run(self, output: str, *mishaps: Callable[[], None]) -> Iterator[None]:
        """Does that to the run that starts inside, each at a later step, the first later than the last time.

        What is held up stays so: the run goes on when its workers are started again.
        """
        firsts = {
            name: min((step for step in steps if step >= self._resumed), default=0)
            for name, steps in self._uses.items()
        }
        chosen = self._choose([(step, name) for name, step in firsts.items()], len(mishaps))
        assert chosen is not None, "no image is first needed so late"
        planned = [(name, step, mishap) for (step, name), mishap in zip(chosen, mishaps, strict=True)]
        print(f"held up at steps {[step for step, _ in chosen]}")
        self._resumed = chosen[-1][0] // 2 * 2
        with beside(partial(self._hold_up, Path(output), planned, time.time())):
            yield

    def _choose(
        self, firsts: list[tuple[int, str]], number: int, resumed: int | None = None
    ) -> list[tuple[int, str]] | None:
        """Choose steps, each with its image, behind a checkpoint that only this run writes; None if none are.

        Near ones first: each of the next mishaps needs a later one.
        """
        if not number:
            return []
        earliest = (self._resumed if resumed is None else resumed) + 2
        later = [one for one in firsts if one[0] >= earliest]
        near = [one for one in later if one[0] <= earliest + 1]
        for one in (*self._random.sample(near, len(near)), *self._random.sample(later, len(later))):
            rest = self._choose(firsts, number - 1, one[0] // 2 * 2)
            if rest is not None:
                return [one, *rest]
        return None

    def _hold_up(
        self, output: Path, planned: list[tuple[str, int, Callable[[], None]]], since: float
    ) -> None:
        # The driver has looked for the images when Ray writes this file, and no worker is there yet.
        wait_for(
            lambda: any(f.stat().st_mtime > since for f in output.glob("runs/*/.validate_storage_marker"))
        )
        for name, *_ in planned:
            (self._folder / name).rename(self._folder / f"aside {name}")
            os.mkfifo(self._folder / name)
        for name, step, mishap in planned:
            wait_for(lambda step=step: _committed_step(output) >= step // 2 * 2)  # type: ignore[misc]
            (self._folder / f"aside {name}").rename(self._folder / name)
            mishap()


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
