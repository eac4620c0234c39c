"""What the base backbone is taught: to read digits, to solve questions, to judge single statements.

None of it has the form of a reward model's text: there are no markers, and a statement is judged by itself,
whatever went wrong before it.  The benchmark's digits are not used; the others are varied a little.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from backbone_model import END, PICTURE, TURN
from scipy import ndimage

from bisieve.corpus.attempts import Attempts, attempt
from bisieve.corpus.digits import Digits, training_digits
from bisieve.corpus.layouts import draw
from bisieve.corpus.pictures import make_pictures
from bisieve.corpus.questions import ask
from bisieve.corpus.records import question_texts
from bisieve.corpus.solver import Solver
from bisieve.corpus.tasks import TASKS, Task
from bisieve.corpus.tasks import Kind as SlotKind
from bisieve.prompt import STEP_SEPARATOR

ROUND = 512  # lessons
COPIES = 8  # of every digit, each turned, stretched and shifted a little
WEIGHTS = np.array([5, 4, 3, 3, 2, 3]) / 20  # of the tasks in the lessons
RIGHT, WRONG = "Yes", "No"
UPTO_DIGITS = re.compile(r".*?{[a-d]}( and {[a-d]})?")  # of a step that reads

MISTAKE_RATES = {"reading": 0.0, "checks": 0.6, "solution": 0.0, "verdicts": 0.35}

Part = tuple[str, bool]  # text, and whether to learn it


class Kind(Enum):
    """A kind of lesson, and the mistakes made in it."""

    READING = "reading"
    CHECKS = "checks"
    SOLUTION = "solution"
    VERDICTS = "verdicts"

    @property
    def solver(self) -> Solver:
        """Who solves the questions of such lessons."""
        return Solver(MISTAKE_RATES[self.value], mend_rate=0.0)


@dataclass(frozen=True)
class Lesson:
    """One text about one picture, in parts; only some parts are learned."""

    picture: np.ndarray  # (56, 56) grey
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(text for text, _ in self.parts)


def varied_digits(rng: np.random.Generator) -> Digits:
    """The training digits, `COPIES` times, each copy a little different."""
    digits = training_digits()
    rows = np.tile(np.arange(len(digits.index)), COPIES)
    pixels = digits.pixels[rows].astype(np.float32)
    for row in range(len(digits.index), len(rows)):  # the first copy stays as it is
        angle, shear = rng.normal(0, 0.10), rng.normal(0, 0.10)
        stretch = rng.normal(1, 0.06, 2)
        matrix = np.array([[np.cos(angle), -np.sin(angle) + shear], [np.sin(angle), np.cos(angle)]]) * stretch
        centre = np.array([3.5, 3.5])
        offset = centre - matrix @ (centre + rng.normal(0, 0.3, 2))
        pixels[row] = ndimage.affine_transform(pixels[row], matrix, offset, order=1)
    varied = digits.take(rows)
    return replace(varied, pixels=np.clip(pixels.round(), 0, 16).astype(np.uint8))


def batches(
    kinds: tuple[Kind, ...], digits: Digits, size: int, rng: np.random.Generator
) -> Iterator[list[Lesson]]:
    """Lessons of the given kinds about all tasks, without end, in batches of about equal length."""
    while True:
        rows = rng.multinomial(ROUND, WEIGHTS)
        of_round = [
            lesson
            for task, n in zip(TASKS, rows, strict=True)
            for lesson in _lessons(kinds, task, digits, n, rng)
        ]
        of_round.sort(key=lambda lesson: len(lesson.text))
        for batch in rng.permutation(ROUND // size):
            yield of_round[batch * size : (batch + 1) * size]


def _lessons(
    kinds: tuple[Kind, ...], task: Task, digits: Digits, n: int, rng: np.random.Generator
) -> Iterator[Lesson]:
    pictures = make_pictures(task.layout, digits, n, rng)
    pictures = replace(pictures, difficulty=np.ones_like(pictures.difficulty))
    questions = ask(task, pictures, np.arange(n), rng.integers(len(task.variants), size=n))
    wordings = question_texts(task)
    attempts = {kind: attempt(task, questions, kind.solver, rng) for kind in set(kinds)}
    for row in range(n):
        kind = kinds[row % len(kinds)]
        cells = pictures.cells[row]
        picture = draw(task.layout, digits.pixels[cells], digits.labels[cells], pictures.shifts[row])
        wording = wordings[questions.variant[row]]
        yield Lesson(picture, tuple(WRITERS[kind](wording, attempts[kind], row)))


def _reading(wording: str, attempts: Attempts, row: int) -> list[Part]:
    """What the steps say about the digits, and no more: short, so that reading is learned fast."""
    return [(f"{PICTURE}\n", False), *((f"{text}\n", True) for text, _ in _readings(attempts, row))]


def _checks(wording: str, attempts: Attempts, row: int) -> list[Part]:
    """Are the digits what the steps say they are?  About every second one is not."""
    parts: list[Part] = [(f"{PICTURE}\n", False)]
    for text, true in _readings(attempts, row):
        parts += [(f"{text}\n", False), (RIGHT if true else WRONG, True), ("\n", False)]
    return parts


def _readings(attempts: Attempts, row: int) -> Iterator[tuple[str, bool]]:
    task, questions, said = attempts.task, attempts.questions, attempts.positions[-1].state.values
    word = task.variants[questions.variant[row]].word
    for step in task.steps:
        read = {slot.name: said[slot.name][row] for slot in step.slots if slot.kind is SlotKind.READ}
        if read and (beginning := UPTO_DIGITS.match(step.sentence)):
            true = all(questions.truth[name][row] == value for name, value in read.items())
            yield beginning.group().format(word=word, **read) + ".", true


def _solution(wording: str, attempts: Attempts, row: int) -> list[Part]:
    steps = [position.texts[row] for position in attempts.positions if position.present[row]]
    return [(_opening("", wording) + "Process: ", False), (STEP_SEPARATOR.join(steps) + END, True)]


def _verdicts(wording: str, attempts: Attempts, row: int) -> list[Part]:
    """Is each statement true, given what was stated before it?"""
    parts: list[Part] = [(_opening("Is each statement true?", wording), False)]
    taken = 0
    for position in attempts.positions:
        slots = attempts.task.steps[taken].slots if position.steps_taken > taken else ()
        taken = position.steps_taken
        if slots:
            values = position.state.values
            true = all(values[slot.name][row] == slot.ideal(values)[row] for slot in slots)
            parts += [(f"{position.texts[row]}\n", False), (RIGHT if true else WRONG, True), ("\n", False)]
    return parts


def _opening(request: str, wording: str) -> str:
    return f"{TURN}user\n{request}{END}\n{TURN}assistant\n{PICTURE}\nQuestion: {wording}\n"


WRITERS = {Kind.READING: _reading, Kind.CHECKS: _checks, Kind.SOLUTION: _solution, Kind.VERDICTS: _verdicts}
