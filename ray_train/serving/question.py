"""A request to score solutions, checked: what goes from the server to a replica, and what comes back."""

from collections.abc import Sequence
from dataclasses import dataclass

from bisieve.errors import BisieveError
from ray_train.model.prompt_format import PromptFormat

MALFORMED, TOO_LARGE, UNUSABLE = 400, 413, 422  # HTTP status codes


class RefusedError(BisieveError):
    """A request that is not answered with rewards, with its HTTP status."""

    def __init__(self, expected: str, found: str, hint: str, status: int = UNUSABLE) -> None:
        super().__init__(expected, found, hint)
        self.status = status


@dataclass(frozen=True)
class Question:
    """A question with the solutions that are to be scored."""

    question: str
    images: tuple[bytes, ...]  # encoded, in the order of the request
    solutions: tuple[tuple[str, ...], ...]  # the steps of each


@dataclass(frozen=True)
class Scored:
    """The rewards of a question's solutions."""

    rewards: list[list[float]]  # one per step of each; NaN for a step beyond the length limit
    batches: list[int]  # sizes of the batches, in solutions, in which they went through the model


@dataclass(frozen=True)
class Served:
    """What a server tells of its model, and what requests are checked against."""

    name: str  # as requests name it
    root: str  # where it is
    run: str  # of the training; empty if bisieve did not train it
    format: PromptFormat
    reserved: tuple[str, ...]  # tokens that no question or step may contain
    max_length: int  # tokens of a solution


def check_solutions(asked: Question, served: Served, max_steps: int) -> None:
    """Check the number of steps and the texts.

    Raises:
        RefusedError: There is no solution or step, or too many, or a text has a token of the prompt.
    """
    if not asked.solutions:
        raise RefusedError("at least one solution", "none", "give its steps")
    for number, steps in enumerate(asked.solutions, start=1):
        if not steps:
            where = f" in solution {number}" if len(asked.solutions) > 1 else ""
            raise RefusedError(f"at least one step{where}", "none", "give the steps of a solution")
    total = sum(map(len, asked.solutions))
    if total > max_steps:
        raise RefusedError(
            f"at most {max_steps:,} steps in a request",
            f"{total:,}",
            "send fewer solutions at once",
            TOO_LARGE,
        )
    _check_reserved("the question", asked.question, served.reserved)
    for steps in asked.solutions:
        for number, step in enumerate(steps, start=1):
            _check_reserved(f"step {number}", step, served.reserved)
        _check_reserved("the solution", "\n".join([asked.question, *steps]), served.reserved)


def _check_reserved(name: str, text: str, reserved: Sequence[str]) -> None:
    for token in reserved:
        if token in text:
            raise RefusedError(
                f"no token of the model's prompt in {name}",
                repr(token),
                "write it otherwise, or leave it out",
            )
