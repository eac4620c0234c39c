"""Training data of the base backbone: pictures with the digit at each token, and statements with verdicts.

The texts differ from those of a reward model: there are no markers, and a verdict is a word after each
statement. It is about this statement alone: whether it agrees with the picture and with the statements before
it, right or wrong. Only digits that the benchmark never shows are used, slightly turned and shifted.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from backbone_model import END, PICTURE, TOKENS_A_SIDE, TURN
from scipy import ndimage

from bisieve.synthetic.annotation import Attempts, attempt
from bisieve.synthetic.pictures import (
    SIDE,
    Digits,
    Pictures,
    digit_boxes,
    draw,
    make_pictures,
    training_digits,
)
from bisieve.synthetic.shard_files import question_texts
from bisieve.synthetic.solver import Solver, ask
from bisieve.synthetic.tasks import TASKS, Step, Task, Values

COPIES = 8  # of each digit: the original and variants that are turned, stretched and shifted a little
WEIGHTS = np.array([5, 4, 3, 3, 2, 3]) / 20  # shares of the tasks in the lessons, in the order of TASKS
RIGHT, WRONG = "Yes", "No"
CARELESS = Solver(mistake_rate=0.3, correction_rate=0.0)
NOTHING = -100  # the label of a token that is not learned: cross_entropy ignores it
COVERED = 70  # pixels of a token's 14 × 14 that a digit must cover to be the token's label


@dataclass(frozen=True)
class Lesson:
    """A text about a picture, in parts."""

    picture: np.ndarray  # uint8 (56, 56), grey
    parts: tuple[tuple[str, bool], ...]  # text, and whether to learn it

    @property
    def text(self) -> str:
        """Return the whole text."""
        return "".join(text for text, _ in self.parts)


def varied_digits(rng: np.random.Generator) -> Digits:
    """Return the training digits, `COPIES` times; all but the first copy are randomly distorted."""
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


def any_tasks(n: int, rng: np.random.Generator) -> Iterator[tuple[Task, int]]:
    """Divide ``n`` lessons at random by `WEIGHTS`, which give small tasks larger shares than in a corpus."""
    counts = rng.multinomial(n, WEIGHTS).tolist()
    return ((task, count) for task, count in zip(TASKS, counts, strict=True) if count)


def labelled_pictures(
    task: Task, digits: Digits, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return random pictures, uint8 [n, 56, 56], and the digit at each image token, [n, 16], or `NOTHING`."""
    pictures = make_pictures(task.layout, digits, n, rng)
    labels = np.full((n, TOKENS_A_SIDE, TOKENS_A_SIDE), NOTHING)
    for row in range(n):
        cover = np.full((SIDE, SIDE), 10)
        boxes = digit_boxes(task.layout, pictures.shifts[row])
        for digit, box in zip(digits.labels[pictures.cells[row]], boxes, strict=True):
            cover[box] = digit
        width = SIDE // TOKENS_A_SIDE
        blocks = cover.reshape(TOKENS_A_SIDE, width, TOKENS_A_SIDE, width).swapaxes(1, 2)
        counts = (blocks.reshape(TOKENS_A_SIDE, TOKENS_A_SIDE, -1, 1) == np.arange(10)).sum(axis=2)
        labels[row] = np.where(counts.max(axis=-1) >= COVERED, counts.argmax(axis=-1), NOTHING)
    return _canvases(pictures), labels.reshape(n, -1)


def any_pictures(digits: Digits, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return `labelled_pictures` of all tasks."""
    parts = [labelled_pictures(task, digits, count, rng) for task, count in any_tasks(n, rng)]
    pictures, labels = zip(*parts, strict=True)
    return np.concatenate(pictures), np.concatenate(labels)


def any_lessons(digits: Digits, n: int, rng: np.random.Generator) -> list[Lesson]:
    """Return `lessons` about all tasks."""
    return [lesson for task, count in any_tasks(n, rng) for lesson in lessons(task, digits, count, rng)]


def lessons(task: Task, digits: Digits, n: int, rng: np.random.Generator) -> list[Lesson]:
    """Return ``n`` solutions of a careless solver, with a verdict after each statement."""
    pictures = make_pictures(task.layout, digits, n, rng)
    pictures = replace(pictures, difficulty=np.ones_like(pictures.difficulty))
    questions = ask(task, pictures, np.arange(n), rng.integers(len(task.variants), size=n))
    wordings = question_texts(task)
    attempts = attempt(task, questions, CARELESS, rng)
    canvases = _canvases(pictures)
    return [
        Lesson(canvases[row], tuple(_judged(wordings[questions.variant[row]], attempts, row)))
        for row in range(n)
    ]


def _canvases(pictures: Pictures) -> np.ndarray:
    digits, layout = pictures.digits, pictures.layout
    return np.stack(
        [
            draw(layout, digits.pixels[cells], digits.labels[cells], shifts)
            for cells, shifts in zip(pictures.cells, pictures.shifts, strict=True)
        ]
    )


def _judged(wording: str, attempts: Attempts, row: int) -> Iterator[tuple[str, bool]]:
    yield (
        f"{TURN}user\nIs each statement true?{END}\n{TURN}assistant\n{PICTURE}\nQuestion: {wording}\n",
        False,
    )
    taken = 0
    for position in attempts.positions:
        if not position.present[row]:
            continue
        states = position.steps_taken > taken  # a filler states nothing and gets no verdict
        taken = position.steps_taken
        yield f"{position.texts[row]}\n", True
        if states:
            step = attempts.task.steps[taken - 1]
            yield RIGHT if follows(step, position.state.values)[row] else WRONG, True
            yield "\n", False


def follows(step: Step, values: Values) -> np.ndarray:
    """Return whether ``step`` follows from the picture and the earlier steps, right or wrong, bool [rows]."""
    return np.all([slot.ideal(values) == values[slot.name] for slot in step.slots], axis=0)
