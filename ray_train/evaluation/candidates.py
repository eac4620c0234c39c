"""Read candidates: questions with their right answer and N responses of which the best is to be picked.

A record of JSONL or Parquet has ``question``, ``image`` (a name or a list), ``answer`` and ``responses``,
each the text of a solution or the list of its steps. It may have ``answers`` (the final answer of each
response) or ``correct`` (whether each is right); else both follow from the text: `final_answer` finds the
answer in it, and `is_same` says whether it is the right one. ``data_source`` is optional.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain

import msgspec

from bisieve.errors import TrainingError
from bisieve.io.storage import read_bytes
from bisieve.io.urls import is_parquet
from bisieve.shards.jsonl import read_blocks
from ray_train.choices import LINES, PARAGRAPHS
from ray_train.evaluation.benchmark import Solution
from ray_train.evaluation.config import ANSWER

_SEPARATORS = {PARAGRAPHS: re.compile(r"\n\s*\n"), LINES: re.compile(r"\n")}


class _Record(msgspec.Struct):
    question: str
    answer: str | int | float
    responses: list[str | list[str]]
    image: list[str] | str | None = None
    answers: list[str | int | float] | None = None
    correct: list[bool] | None = None
    data_source: str | None = None


@dataclass(frozen=True)
class Question:
    """A question with its candidates."""

    line: int  # of the file, from 1; of Parquet the row
    images: tuple[str, ...]
    question: str
    answer: str  # the right one
    source: str
    responses: tuple[tuple[str, ...], ...]  # the steps of each response; none: an empty response
    answers: tuple[str, ...]  # the final answer of each response
    correct: tuple[bool, ...]  # whether it is right

    @property
    def key(self) -> str:
        """Key of the question: images and text."""
        return "\n".join([*self.images, self.question])


def read_candidates(url: str, split: str, pattern: str, marker: str) -> list[Question]:
    """Read the questions of a file; blank lines are skipped.

    Args:
        url: URL of a JSONL file, which may be compressed, or of a Parquet file.
        split: One of `choices.SPLITS`, for responses that are texts.
        pattern: The regular expression of a final answer, as in `final_answer`.
        marker: The token at which rewards are read; it must not occur in a question.

    Raises:
        TrainingError: A record is malformed (the error gives its line), or the file has none.
        CorpusError: The file cannot be decompressed, or holds no JSON lines.
    """
    questions = []
    for number, record in _records(url):
        if problem := _problem(record, marker):
            raise _malformed(url, number, problem)
        questions.append(_question(number, record, split, pattern))
    if not questions:
        raise TrainingError(f"questions in {url}", "an empty file", "give another --candidates")
    return questions


def _records(url: str) -> Iterator[tuple[int, _Record]]:
    if is_parquet(url):
        yield from _rows(url)
        return
    decoder = msgspec.json.Decoder(_Record)
    lines = chain.from_iterable(block.data.split(b"\n") for block in read_blocks(url, 0, sys.maxsize))
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield number, decoder.decode(line)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                raise _malformed(url, number, str(error)) from error


def _rows(url: str) -> Iterator[tuple[int, _Record]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(read_bytes(url)))
    except pa.ArrowInvalid as error:
        hint = "give another --candidates"
        raise TrainingError(f"a Parquet file at {url}", str(error).splitlines()[0], hint) from error
    for number, row in enumerate(table.to_pylist(), start=1):
        try:
            yield number, msgspec.convert(row, _Record)
        except msgspec.ValidationError as error:
            raise _malformed(url, number, str(error)) from error


def _malformed(url: str, number: int, found: str) -> TrainingError:
    return TrainingError(f"a question with responses in line {number} of {url}", found, "correct the line")


def _problem(record: _Record, marker: str) -> str:
    """Return what is wrong with a record; "" if nothing is."""
    problems = {
        "no question": not record.question.strip(),
        "no image": not record.image,
        "no answer": not str(record.answer).strip(),
        "no responses": not record.responses,
        f"the marker {marker} in the question": marker in record.question,
    }
    for name in ("answers", "correct"):
        given = getattr(record, name)
        found = f"{len(record.responses)} responses but {len(given or ())} {name}"
        problems[found] = given is not None and len(given) != len(record.responses)
    return next((problem for problem, holds in problems.items() if holds), "")


def _question(number: int, record: _Record, split: str, pattern: str) -> Question:
    images = [record.image] if isinstance(record.image, str) else record.image or []
    responses = [steps_of(response, split) for response in record.responses]
    answer = str(record.answer)
    answers = [final_answer("\n".join(steps), pattern) for steps in responses]
    if record.answers is not None:
        answers = [str(given) for given in record.answers]
    correct = record.correct or [is_same(given, answer) for given in answers]
    return Question(
        number, tuple(images), record.question.strip(), answer, record.data_source or "all",
        tuple(responses), tuple(answers), tuple(correct),
    )  # fmt: skip


def steps_of(response: str | list[str] | None, split: str) -> tuple[str, ...]:
    """Return the steps of a response, stripped and without empty ones.

    Args:
        response: Its text or the list of its steps; None: no response.
        split: One of `choices.SPLITS`, for a text.
    """
    if response is None:
        return ()
    parts = _SEPARATORS[split].split(response) if isinstance(response, str) else response
    return tuple(part.strip() for part in parts if part.strip())


def solutions_of(questions: Sequence[Question]) -> list[Solution]:
    """Return every response that has steps as a solution to score; its line is its number among all."""
    every = ((one, place, steps) for one in questions for place, steps in enumerate(one.responses, start=1))
    return [
        Solution(number, one.images, one.question, steps, (0,) * len(steps), one.source, "", place, one.line)
        for number, (one, place, steps) in enumerate(every, start=1)
        if steps
    ]


def final_answer(solution: str, pattern: str = ANSWER) -> str:
    """Return the final answer of a solution.

    Args:
        solution: Its text.
        pattern: A regular expression; the answer is the first group that is not empty in its last match.

    Returns:
        The answer, or the last line of ``solution`` if nothing matches; "" for an empty solution.
    """
    matches = list(re.finditer(pattern, solution))
    if matches:
        return next((group for group in matches[-1].groups() if group), "").strip()
    lines = solution.strip().splitlines()
    return lines[-1].strip() if lines else ""


def normalized(answer: str) -> str:
    r"""Return a form of an answer that is equal for equal answers.

    Case, spaces at the ends, a full stop, dollar signs, and one pair of parentheses or of ``\boxed{}`` do not
    matter. Numbers are compared by value, to 28 digits: 1,200 and 1200.0 are equal.
    """
    text = answer.lstrip("$* \t\n").rstrip("$*. \t\n")
    for left, right in (("\\boxed{", "}"), ("(", ")")):
        if text.startswith(left) and text.endswith(right):
            text = text[len(left) : -len(right)].strip()
    try:
        return str(Decimal(re.sub(r"(?<=[0-9]),(?=[0-9]{3})", "", text)).normalize() + 0)
    except ArithmeticError:  # it is no number
        return " ".join(text.casefold().split())


def is_same(one: str, other: str) -> bool:
    """Return whether two answers are the same; an empty answer is the same as none."""
    return bool(normalized(one)) and normalized(one) == normalized(other)
