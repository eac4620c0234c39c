"""The sources of a corpus: `make_sources` sizes them, `generate` yields the rollouts of one, in batches."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bisieve.synthetic.annotation import annotate, attempt
from bisieve.synthetic.corpus_config import CorpusConfig
from bisieve.synthetic.pictures import Pictures, make_pictures, training_digits
from bisieve.synthetic.shard_files import AnnotatedRollout, annotated_rollouts
from bisieve.synthetic.solver import ask, reading_orders
from bisieve.synthetic.tasks import TASKS, Task

BATCH_QUESTIONS = 1_000  # solved at once: bounds the memory; another value gives another corpus for a seed
PICTURES, BATCHES, SCATTER, ORDERS = 0, 1, 2, 3  # streams of random numbers, for `random_stream`


def random_stream(config: CorpusConfig, task: Task, stream: int, number: int = 0) -> np.random.Generator:
    """Return the random generator for one purpose, independent of all others and of the order of work.

    Args:
        config: Gives the seed.
        task: The task that needs the numbers.
        stream: `PICTURES`, `BATCHES`, `SCATTER` or `ORDERS`.
        number: The number of the batch, for `BATCHES` and `ORDERS`.
    """
    return np.random.default_rng([config.seed, TASKS.index(task), stream, number])


@dataclass(frozen=True)
class Source:
    """The part of a corpus that belongs to one task family."""

    task: Task
    rollouts: int
    pictures: Pictures


def rollouts_per_source(total: int) -> list[int]:
    """Divide ``total`` rollouts by the tasks' shares; the first, largest source gets the rounding rest."""
    counts = [int(total * task.share) for task in TASKS]
    counts[0] += total - sum(counts)
    return counts


def make_sources(config: CorpusConfig) -> list[Source]:
    """Return the sources with at least one rollout, in the order of `TASKS` (largest first)."""
    digits = training_digits()
    sources = []
    for task, rollouts in zip(TASKS, rollouts_per_source(config.rollouts), strict=True):
        if rollouts == 0:
            continue
        questions = -(-rollouts // config.rollouts_per_question)
        distinct = min(questions, max(1, round(config.images * task.share)))
        pictures = make_pictures(task.layout, digits, distinct, random_stream(config, task, PICTURES))
        sources.append(Source(task, rollouts, pictures))
    return sources


def generate(source: Source, config: CorpusConfig) -> Iterator[AnnotatedRollout]:
    """Yield the annotated rollouts of ``source``, in order; one batch is in memory at a time."""
    batch_rollouts = BATCH_QUESTIONS * config.rollouts_per_question
    for batch, first in enumerate(range(0, source.rollouts, batch_rollouts)):
        rng = random_stream(config, source.task, BATCHES, batch)
        numbers = np.arange(batch * BATCH_QUESTIONS, (batch + 1) * BATCH_QUESTIONS)
        variants = rng.integers(len(source.task.variants), size=BATCH_QUESTIONS)
        asked = np.arange(min(batch_rollouts, source.rollouts - first)) // config.rollouts_per_question
        orders = reading_orders(
            source.task, len(asked), config.any_order, random_stream(config, source.task, ORDERS, batch)
        )
        pictures = numbers[asked] % len(source.pictures)
        questions = ask(source.task, source.pictures, pictures, variants[asked], orders)
        attempts = attempt(source.task, questions, config.solver, rng)
        counts = annotate(attempts, config.continuations, config.solver, rng)
        yield from annotated_rollouts(attempts, counts, config.continuations, first, config.early_stop)
