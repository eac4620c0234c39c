"""Where the rollouts of a source go: one shard or several, in either layout."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice

import numpy as np

from bisieve.corpus.records import AnnotatedRollout, rollout_line, step_lines
from bisieve.storage import join, open_output

WINDOW_SHARDS = 8  # open at once; the steps of a rollout are scattered over them
SHUFFLED_ROLLOUTS = 4_000  # whose steps are shuffled together


@dataclass(frozen=True)
class Shard:
    """One file."""

    path: str  # below the corpus
    rollouts: int  # that it holds; in the layout "steps", its part of the rollouts of its window


def plan_shards(source: str, rollouts: int, shard_rollouts: int | None) -> list[Shard]:
    """One file named after the source, or several in a folder of that name, no two stems alike."""
    if shard_rollouts is None:
        return [Shard(f"annotations/{source}.jsonl", rollouts)]
    return [
        Shard(f"annotations/{source}/{source}-{number:05d}.jsonl", min(shard_rollouts, rollouts - first))
        for number, first in enumerate(range(0, rollouts, shard_rollouts))
    ]


def write_rollout_shards(output: str, shards: list[Shard], rollouts: Iterator[AnnotatedRollout]) -> None:
    """One record a rollout, in order."""
    for shard in shards:
        with open_output(join(output, shard.path)) as file:
            file.writelines(map(rollout_line, islice(rollouts, shard.rollouts)))


def write_step_shards(
    output: str, shards: list[Shard], rollouts: Iterator[AnnotatedRollout], rng: np.random.Generator
) -> None:
    """One record a step: in random order, and in a random shard of its window."""
    for first in range(0, len(shards), WINDOW_SHARDS):
        window = shards[first : first + WINDOW_SHARDS]
        of_window = islice(rollouts, sum(shard.rollouts for shard in window))
        with ExitStack() as stack:
            files = [stack.enter_context(open_output(join(output, shard.path))) for shard in window]
            while some := list(islice(of_window, SHUFFLED_ROLLOUTS)):
                lines = [line for rollout in some for line in step_lines(rollout)]
                order = rng.permutation(len(lines)).tolist()
                places = rng.integers(len(files), size=len(lines)).tolist()
                for line, place in zip(order, places, strict=True):
                    files[place].write(lines[line])
