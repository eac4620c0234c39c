"""Write annotated rollouts as JSONL shards of either layout.

attempts, counts ─ annotated_rollouts ─▶ AnnotatedRollout ─┬─ write_rollout_shards ─▶ a record per rollout
                                                           └─ write_step_shards ────▶ a record per step
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec
import numpy as np

from bisieve.io.storage import open_output
from bisieve.io.urls import join
from bisieve.records.prompt import STEP_SEPARATOR
from bisieve.synthetic.annotation import Attempts, Counts
from bisieve.synthetic.pictures import picture_path
from bisieve.synthetic.tasks import Task

INSTRUCTION = 'Answer step by step. End with "Final answer: ", followed by the answer.'

WINDOW_SHARDS = 8  # step shards open at once: a window; the steps of a rollout are scattered over it
SHUFFLED_ROLLOUTS = 4_000  # rollouts whose steps are shuffled together


@dataclass(frozen=True, slots=True)
class AnnotatedRollout:
    """One rollout of the corpus; it has MC counts, but not the true labels of its steps."""

    rollout_id: str
    source: str
    image: str
    question: str
    answer: str
    steps: list[str]
    mc_correct: list[int]  # per step: continuations that reached the right answer
    mc_total: list[int]  # per step: all continuations; 0 where annotation was stopped before
    continuations: int  # of a step that was annotated (N)


def question_texts(task: Task) -> list[str]:
    """Return the question of each variant of ``task``."""
    return [task.question.format(word=v.word, limit=v.limit) for v in task.variants]


def annotated_rollouts(
    attempts: Attempts, counts: list[Counts], continuations: int, first_number: int, early_stop: bool = False
) -> Iterator[AnnotatedRollout]:
    """Yield the rollouts of a batch, one per row.

    Args:
        attempts: The batch.
        counts: Right continuations, an array for each position, from `annotate`.
        continuations: Continuations per step (N).
        first_number: The number of the first rollout, for its id.
        early_stop: After a step without a right continuation, leave all later steps without samples.
    """
    task, questions = attempts.task, attempts.questions
    wordings = question_texts(task)
    pictures, variants = questions.picture.tolist(), questions.variant.tolist()
    answers = questions.truth["answer"].tolist()
    present = [position.present.tolist() for position in attempts.positions]
    texts = [position.texts for position in attempts.positions]
    successes = [column.tolist() for column in counts]
    for row in range(len(questions)):
        places = [place for place, there in enumerate(present) if there[row]]
        correct, total = [successes[place][row] for place in places], [continuations] * len(places)
        if early_stop and 0 in correct:
            annotated = correct.index(0) + 1
            correct[annotated:] = total[annotated:] = [0] * (len(places) - annotated)
        yield AnnotatedRollout(
            f"{task.name}-{first_number + row:08d}",
            task.name,
            picture_path(task.name, pictures[row]),
            wordings[variants[row]],
            str(answers[row]),
            [texts[place][row] for place in places],
            correct,
            total,
            continuations,
        )


def _prompt(rollout: AnnotatedRollout) -> dict[str, Any]:
    return {
        "image": rollout.image,
        "question": f"<image>\n{rollout.question}\n{INSTRUCTION}",
        "question_orig": rollout.question,
        "answer": rollout.answer,
    }


def _scored(rollout: AnnotatedRollout, index: int) -> dict[str, Any]:
    return {
        "step": rollout.steps[index],
        "score": rollout.mc_correct[index] / max(rollout.mc_total[index], 1),
        "num_mc_correct": rollout.mc_correct[index],
        "num_mc_total": rollout.mc_total[index],
    }


def rollout_line(rollout: AnnotatedRollout) -> bytes:
    """Return a rollout as a line of the layout "rollouts", with its line end.

    The record is as in VisualPRM400K-v1.1-Raw, with the field ``source`` added.
    """
    record = _prompt(rollout) | {
        "response": STEP_SEPARATOR.join(rollout.steps),
        "steps_with_score": [_scored(rollout, index) for index in range(len(rollout.steps))],
        "num_mc_sequences": rollout.continuations,
        "source": rollout.source,
    }
    return msgspec.json.encode(record) + b"\n"


def step_lines(rollout: AnnotatedRollout) -> list[bytes]:
    """Return a rollout as lines of the layout "steps", one per step, with their line ends.

    Only the first step has the image, the question and the answer.
    """
    lines = []
    for index in range(len(rollout.steps)):
        record = {"rollout_id": rollout.rollout_id, "step_index": index} | _scored(rollout, index)
        if index == 0:
            record |= _prompt(rollout)
        lines.append(msgspec.json.encode(record | {"source": rollout.source}) + b"\n")
    return lines


@dataclass(frozen=True)
class Shard:
    """A shard to write."""

    path: str  # relative to the corpus
    rollouts: int  # in the file; with the layout "steps", the file's share of the rollouts of its window


def plan_shards(source: str, rollouts: int, shard_rollouts: int | None) -> list[Shard]:
    """Return the shards of a source: one file named after it, or several in a folder of that name.

    All shards of a corpus have different file stems.

    Args:
        source: Its name.
        rollouts: Its number of rollouts.
        shard_rollouts: Rollouts per shard; None: one shard.
    """
    if shard_rollouts is None:
        return [Shard(f"annotations/{source}.jsonl", rollouts)]
    return [
        Shard(f"annotations/{source}/{source}-{number:05d}.jsonl", min(shard_rollouts, rollouts - first))
        for number, first in enumerate(range(0, rollouts, shard_rollouts))
    ]


def write_rollout_shards(output: str, shards: list[Shard], rollouts: Iterator[AnnotatedRollout]) -> None:
    """Write ``rollouts`` to ``shards``, in order, one record per rollout."""
    for shard in shards:
        with open_output(join(output, shard.path)) as file:
            file.writelines(map(rollout_line, islice(rollouts, shard.rollouts)))


def write_step_shards(
    output: str, shards: list[Shard], rollouts: Iterator[AnnotatedRollout], rng: np.random.Generator
) -> None:
    """Write ``rollouts`` to ``shards``, one record per step, scattered.

    Each step goes to a random shard of the `WINDOW_SHARDS` that are open, in random order among the steps of
    `SHUFFLED_ROLLOUTS` rollouts.
    """
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
