"""Corpora that a worker could choke on."""

from contextlib import ExitStack
from dataclasses import replace
from itertools import chain, cycle, islice
from pathlib import Path

from bench.corpora.batch import STEP_ENDS, rollouts_of
from bench.corpora.layouts import rollout_line
from bench.corpora.shards import Written, scatter
from bench.corpora.sources import SOURCES

LONG_ROLLOUT_STEPS = 100_000
LONG_LINES, LONG_LINE_BYTES = 200, 5_000_000
_SHARDS = 8
_OTHERS = 5_000  # rollouts beside the long one


def write_long_rollout(folder: Path, size: float) -> list[Written]:
    """Steps layout: one rollout of 100,000 steps, scattered over all shards among ordinary ones."""
    source = SOURCES[0]
    ordinary = list(chain.from_iterable(rollouts_of(source, max(2, round(_OTHERS * size)))))
    steps = max(2, round(LONG_ROLLOUT_STEPS * size))
    texts, ends = cycle(ordinary[0].steps), cycle(STEP_ENDS[:-1])
    long = replace(ordinary[0], steps=list(islice(texts, steps)), ends=list(islice(ends, steps)))
    with ExitStack() as open_together:
        names = [folder / f"part-{place}.jsonl" for place in range(_SHARDS)]
        files = [open_together.enter_context(open(name, "wb")) for name in names]
        written = scatter(files, source, [long, *ordinary[1:]])
    return [Written(len(ordinary), written)]


def write_long_lines(folder: Path, size: float) -> list[Written]:
    """Rollouts layout: lines of 5 MB, their text in few steps."""
    source = SOURCES[0]
    lines = max(2, round(LONG_LINES * size))
    rollouts = list(islice(chain.from_iterable(rollouts_of(source, lines)), lines))
    with open(folder / f"{source.name}.jsonl", "wb") as file:
        for rollout in rollouts:
            each = LONG_LINE_BYTES // (2 * len(rollout.steps))  # the response says it all again
            steps = [b" ".join([step] * (each // (len(step) + 1))) for step in rollout.steps]
            file.write(rollout_line(replace(rollout, steps=steps)))
    return [Written(lines, sum(len(rollout.steps) for rollout in rollouts))]
