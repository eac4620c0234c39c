"""A batch of rollouts of one source, not yet in any layout."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench.corpora.scores import draw_counts, draw_num_steps
from bench.corpora.sources import LISTS_OF_IMAGES, SOURCES, Source
from bench.corpora.text import Pool, make_pool

BATCH_ROLLOUTS = 8192
_ROLLOUTS_A_QUESTION = 3
_UNUSABLE = 1e-4  # the paper's validity filter took 53 of 565,149
NO_IMAGE, NO_QUESTION, BLANK_STEP, BAD_SCORE = 1, 2, 3, 4

# What a step says after its text, by K; the last entry is no score.
STEP_ENDS = [
    b'", "score": %s, "num_mc_correct": %d, "num_mc_total": 16}' % (repr(k / 16).encode(), k)
    for k in range(17)
]
STEP_ENDS.append(b'", "score": 1.5, "num_mc_correct": 24, "num_mc_total": 16}')


@dataclass(frozen=True)
class Rollout:
    """One rollout; text is escaped as in JSON."""

    number: int  # in its source
    image: bytes  # JSON
    question: bytes
    answer: bytes
    steps: list[bytes]
    ends: list[bytes]  # of STEP_ENDS, one a step


def rollouts_of(source: Source, rollouts: int, text_factor: int = 1) -> Iterator[list[Rollout]]:
    """The first ``rollouts`` of a source, in batches, the same ones every time."""
    place = SOURCES.index(source)
    pool = make_pool(np.random.default_rng([place, text_factor]), text_factor)
    for batch, first in enumerate(range(0, rollouts, BATCH_ROLLOUTS)):
        rng = np.random.default_rng([place, batch, 7])
        yield list(_batch(rng, source, first, min(BATCH_ROLLOUTS, rollouts - first), pool))


def _batch(
    rng: np.random.Generator, source: Source, first: int, rollouts: int, pool: Pool
) -> Iterator[Rollout]:
    num_steps = draw_num_steps(rng, source, rollouts)
    counts = draw_counts(rng, source, num_steps).tolist()
    bodies = rng.integers(0, len(pool.bodies), len(counts)).tolist()
    answers = rng.integers(0, len(pool.answers), rollouts).tolist()
    flaws = np.where(rng.random(rollouts) < _UNUSABLE, rng.integers(1, 5, rollouts), 0).tolist()
    start = 0
    for row, steps in enumerate(num_steps.tolist()):
        end = start + steps
        question = (first + row) // _ROLLOUTS_A_QUESTION
        answer = pool.answers[answers[row]]
        texts = [pool.bodies[body] for body in bodies[start : end - 1]]
        texts.append(answer)
        rollout = Rollout(
            first + row,
            _image(source, question),
            b"%s (%d)" % (pool.questions[question % len(pool.questions)], question),
            answer[14:],
            texts,
            [STEP_ENDS[k] for k in counts[start:end]],
        )
        yield _flawed(rollout, flaws[row]) if flaws[row] else rollout
        start = end


def _image(source: Source, question: int) -> bytes:
    name = source.name.encode()
    if source.name == LISTS_OF_IMAGES:
        return b'["%s/%d-a.png", "%s/%d-b.png"]' % (name, question, name, question)
    return b'"%s/images/%08d.png"' % (name, question)


def _flawed(rollout: Rollout, flaw: int) -> Rollout:
    fields = dict(vars(rollout))
    if flaw == NO_IMAGE:
        fields["image"] = b'""'
    elif flaw == NO_QUESTION:
        fields["question"] = b""
    elif flaw == BLANK_STEP:
        fields["steps"] = [b"  ", *rollout.steps[1:]]
    else:
        fields["ends"] = [*rollout.ends[:-1], STEP_ENDS[-1]]
    return Rollout(**fields)
