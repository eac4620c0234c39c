"""Writes the shards of a source; each function is one process's work."""

import random
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import BinaryIO, NamedTuple

from bench.corpora.batch import Rollout, rollouts_of
from bench.corpora.layouts import rollout_line, step_lines
from bench.corpora.sources import Source

SHARDS_A_SOURCE = 3  # of the steps layout


class Written(NamedTuple):
    """What was written."""

    rollouts: int
    steps: int


def write_rollouts(file: BinaryIO, source: Source, rollouts: int) -> Written:
    """The rollouts of a source, one a line."""
    steps = 0
    for batch in rollouts_of(source, rollouts):
        file.writelines(map(rollout_line, batch))
        steps += sum(len(rollout.steps) for rollout in batch)
    return Written(rollouts, steps)


def write_steps(folder: Path, source: Source, rollouts: int, text_factor: int = 1) -> Written:
    """The steps of a source, scattered over its shards and out of order."""
    steps = 0
    with ExitStack() as open_together:
        names = [folder / f"{source.name}-{place}.jsonl" for place in range(SHARDS_A_SOURCE)]
        files = [open_together.enter_context(open(name, "wb")) for name in names]
        for batch in rollouts_of(source, rollouts, text_factor):
            steps += scatter(files, source, batch)
    return Written(rollouts, steps)


def scatter(files: list[BinaryIO], source: Source, batch: list[Rollout]) -> int:
    """Deals the steps of a batch to the files, one after the other, each file's in random order."""
    dealt: list[list[bytes]] = [[] for _ in files]
    turn = count()
    for rollout in batch:
        for line in step_lines(source, rollout):
            dealt[next(turn) % len(files)].append(line)
    rng = random.Random(batch[0].number)
    for file, lines in zip(files, dealt, strict=True):
        rng.shuffle(lines)
        file.writelines(lines)
    return next(turn)
