"""Write annotated rollouts as JSON lines, in one or several shards of either layout."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec
import numpy as np

from bisieve.io.storage import join, open_output
from bisieve.records.prompt import STEP_SEPARATOR
from bisieve.synthetic.annotation import Attempts, Counts
from bisieve.synthetic.pictures import picture_path
from bisieve.synthetic.tasks import Task

INSTRUCTION = 'Answer step by step. End with "Final answer: ", followed by the answer.'

WINDOW_SHARDS = 8  # open at once; the steps of a rollout are scattered over them
SHUFFLED_ROLLOUTS = 4_000  # whose steps are shuffled together


@dataclass(frozen=True, slots=True)
class AnnotatedRollout:
    """One rollout of the corpus.  It does not know which of its steps are truly right."""

    rollout_id: str
    source: str
    image: str
    question: str
    answer: str
    steps: list[str]
    mc_correct: list[int]
    continuations: int  # sampled from every prefix


def question_texts(task: Task) -> list[str]:
    """The question of every variant of ``task``."""
    return [task.question.format(word=v.word, limit=v.limit) for v in task.variants]


def annotated_rollouts(
    attempts: Attempts, counts: list[Counts], continuations: int, first_number: int
) -> Iterator[AnnotatedRollout]:
    """The rollouts of a batch, one a row, numbered from ``first_number``."""
    task, questions = attempts.task, attempts.questions
    wordings = question_texts(task)
    pictures, variants = questions.picture.tolist(), questions.variant.tolist()
    answers = questions.truth["answer"].tolist()
    present = [position.present.tolist() for position in attempts.positions]
    texts = [position.texts for position in attempts.positions]
    successes = [column.tolist() for column in counts]
    for row in range(len(questions)):
        places = [place for place, there in enumerate(present) if there[row]]
        yield AnnotatedRollout(
            f"{task.name}-{first_number + row:08d}",
            task.name,
            picture_path(task.name, pictures[row]),
            wordings[variants[row]],
            str(answers[row]),
            [texts[place][row] for place in places],
            [successes[place][row] for place in places],
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
        "score": rollout.mc_correct[index] / rollout.continuations,
        "num_mc_correct": rollout.mc_correct[index],
        "num_mc_total": rollout.continuations,
    }


def rollout_line(rollout: AnnotatedRollout) -> bytes:
    """The rollout as one line of the layout "rollouts", as in VisualPRM400K-v1.1-Raw; ``source`` is ours."""
    record = _prompt(rollout) | {
        "response": STEP_SEPARATOR.join(rollout.steps),
        "steps_with_score": [_scored(rollout, index) for index in range(len(rollout.steps))],
        "num_mc_sequences": rollout.continuations,
        "source": rollout.source,
    }
    return msgspec.json.encode(record) + b"\n"


def step_lines(rollout: AnnotatedRollout) -> list[bytes]:
    """The rollout as lines of the layout "steps"; only the first step carries image, question and answer."""
    lines = []
    for index in range(len(rollout.steps)):
        record = {"rollout_id": rollout.rollout_id, "step_index": index} | _scored(rollout, index)
        if index == 0:
            record |= _prompt(rollout)
        lines.append(msgspec.json.encode(record | {"source": rollout.source}) + b"\n")
    return lines


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
