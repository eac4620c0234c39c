"""Questions about pictures, as columns with one row a rollout."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bisieve.corpus.pictures import Pictures
from bisieve.corpus.tasks import Column, Task, Values


@dataclass(frozen=True)
class Questions:
    """One question a row; the rows of one question's rollouts are equal."""

    picture: NDArray[np.int64]
    variant: NDArray[np.int64]
    difficulty: NDArray[np.float32]  # of the question
    ambiguity: tuple[NDArray[np.float32], ...]  # of every digit it needs, in reading order
    lookalikes: tuple[Column, ...]  # what every such digit is most easily taken for
    given: Values  # the true digits "seen0", …, and "limit"
    truth: Values  # every slot of the right solution

    def __len__(self) -> int:
        return len(self.picture)

    def take(self, rows: NDArray[np.int64]) -> "Questions":
        """The questions at ``rows``, which may repeat."""
        return Questions(
            self.picture[rows],
            self.variant[rows],
            self.difficulty[rows],
            tuple(column[rows] for column in self.ambiguity),
            tuple(column[rows] for column in self.lookalikes),
            {name: column[rows] for name, column in self.given.items()},
            {name: column[rows] for name, column in self.truth.items()},
        )


def ask(task: Task, pictures: Pictures, picture: NDArray[np.int64], variant: NDArray[np.int64]) -> Questions:
    """The questions of ``task`` about the pictures numbered ``picture``, asked in the given variants."""
    cells_read = np.array([v.cells for v in task.variants])[variant]
    digits = np.take_along_axis(pictures.cells[picture], cells_read, axis=1)
    limits = np.array([v.limit for v in task.variants], np.int16)
    labels = pictures.digits.labels[digits]
    given = {f"seen{i}": labels[:, i] for i in range(labels.shape[1])} | {"limit": limits[variant]}
    return Questions(
        picture,
        variant,
        pictures.difficulty[picture],
        tuple(pictures.digits.ambiguity[digits].T),
        tuple(pictures.digits.lookalikes[digits].T),
        given,
        _right_solution(task, given),
    )


def _right_solution(task: Task, given: Values) -> Values:
    values = dict(given)
    truth: Values = {}
    for step in task.steps:
        for slot in step.slots:
            truth[slot.name] = values[slot.name] = slot.ideal(values)
    return truth
