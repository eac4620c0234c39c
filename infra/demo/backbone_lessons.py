"""What the base backbone is taught: to read digits, to solve questions, to judge single statements.

None of it has the form of a reward model's text: there are no markers, and a statement is judged by itself,
whatever went wrong before it.  The benchmark's digits are not used; the others are varied a little.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from backbone_model import END, PICTURE, TURN
from scipy import ndimage

from bisieve.corpus.attempts import Attempts, attempt
from bisieve.corpus.digits import Digits, training_digits
from bisieve.corpus.layouts import draw
from bisieve.corpus.pictures import Pictures, make_pictures
from bisieve.corpus.questions import ask
from bisieve.corpus.records import question_texts
from bisieve.corpus.solver import Solver
from bisieve.corpus.tasks import TASKS, Task

ROUND = 512  # lessons
COPIES = 8  # of every digit, each turned, stretched and shifted a little
WEIGHTS = np.array([5, 4, 3, 3, 2, 3]) / 20  # of the tasks in the lessons
RIGHT, WRONG = "Yes", "No"
CARELESS = Solver(mistake_rate=0.25, mend_rate=0.0)


@dataclass(frozen=True)
class Lesson:
    """One text about one picture, in parts; only some parts are learned."""

    picture: np.ndarray  # (56, 56) grey
    parts: tuple[tuple[str, bool], ...]  # text, and whether to learn it

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


def reading_batches(digits: Digits, size: int, rng: np.random.Generator) -> Iterator[list[Lesson]]:
    """Without end: pictures and all their digits, nothing else.  Short, so that reading is learned fast."""
    while True:
        batch = []
        for task in TASKS:
            pictures = make_pictures(task.layout, digits, -(-size // len(TASKS)), rng)
            batch += [Lesson(_draw(pictures, row), _digits(pictures, row)) for row in range(len(pictures))]
        yield batch[:size]


def batches(digits: Digits, size: int, rng: np.random.Generator) -> Iterator[list[Lesson]]:
    """Without end: solutions and verdicts, in batches of about equal length; all tasks in every `ROUND`."""
    while True:
        rows = rng.multinomial(ROUND, WEIGHTS)
        of_round = [
            lesson for task, n in zip(TASKS, rows, strict=True) for lesson in _lessons(task, digits, n, rng)
        ]
        of_round.sort(key=lambda lesson: len(lesson.text))
        for batch in rng.permutation(ROUND // size):
            yield of_round[batch * size : (batch + 1) * size]


def mixed_batches(digits: Digits, size: int, rng: np.random.Generator) -> Iterator[list[Lesson]]:
    """Without end: two batches of solutions and verdicts, then one of reading, lest it be forgotten."""
    lessons, reading = batches(digits, size, rng), reading_batches(digits, size, rng)
    while True:
        yield from (next(lessons), next(lessons), next(reading))


def _draw(pictures: Pictures, row: int) -> np.ndarray:
    cells, digits = pictures.cells[row], pictures.digits
    return draw(pictures.layout, digits.pixels[cells], digits.labels[cells], pictures.shifts[row])


def _digits(pictures: Pictures, row: int) -> tuple[tuple[str, bool], ...]:
    labels = " ".join(map(str, pictures.digits.labels[pictures.cells[row]]))
    return (f"{PICTURE}\nDigits:", False), (f" {labels}{END}", True)


def _lessons(task: Task, digits: Digits, n: int, rng: np.random.Generator) -> Iterator[Lesson]:
    pictures = make_pictures(task.layout, digits, n, rng)
    pictures = replace(pictures, difficulty=np.ones_like(pictures.difficulty))
    questions = ask(task, pictures, np.arange(n), rng.integers(len(task.variants), size=n))
    wordings = question_texts(task)
    right = attempt(task, questions, Solver(0.0, 0.0), rng)
    careless = attempt(task, questions, CARELESS, rng)
    for row in range(n):
        write = KINDS[row % len(KINDS)]
        attempts = careless if write is _verdicts else right
        yield Lesson(_draw(pictures, row), write(wordings[questions.variant[row]], attempts, row))


def _turn(role: str, text: str) -> str:
    return f"{TURN}{role}\n{text}{END}\n"


def _present(attempts: Attempts, row: int) -> list[str]:
    return [position.texts[row] for position in attempts.positions if position.present[row]]


def _chat(wording: str, attempts: Attempts, row: int) -> tuple[tuple[str, bool], ...]:
    steps = "\n\n".join(_present(attempts, row))
    return (_turn("user", f"{PICTURE}\n{wording}") + f"{TURN}assistant\n", False), (f"{steps}{END}", True)


def _document(wording: str, attempts: Attempts, row: int) -> tuple[tuple[str, bool], ...]:
    steps = "\n\n".join(_present(attempts, row))
    before = _turn("user", "") + f"{TURN}assistant\n{PICTURE}\nQuestion: {wording}\nProcess: "
    return (before, False), (f"{steps}{END}", True)


def _verdicts(wording: str, attempts: Attempts, row: int) -> tuple[tuple[str, bool], ...]:
    parts = [(_turn("user", f"{PICTURE}\n{wording}\nIs each statement true?") + f"{TURN}assistant\n", False)]
    for position, slots in zip(attempts.positions, _slots_by_position(attempts), strict=True):
        if not position.present[row] or not slots:
            continue
        values = position.state.values
        true = all(values[slot.name][row] == slot.ideal(values)[row] for slot in slots)
        parts += [(f"{position.texts[row]}\n", False), (RIGHT if true else WRONG, True), ("\n", False)]
    return tuple(parts)


def _slots_by_position(attempts: Attempts) -> list[tuple]:
    taken, slots = 0, []
    for position in attempts.positions:
        slots.append(attempts.task.steps[taken].slots if position.steps_taken > taken else ())
        taken = position.steps_taken
    return slots


KINDS = (_chat, _document, _verdicts, _verdicts)
