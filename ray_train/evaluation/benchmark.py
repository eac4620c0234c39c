"""Read a benchmark: solutions whose steps people have judged, in VisualProcessBench's schema."""

import sys
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec

from bisieve.errors import TrainingError
from bisieve.records.prompt import MARKER
from bisieve.shards.jsonl import read_blocks


class _Response(msgspec.Struct):
    steps: list[str]
    process_correctness: list[int]


class _Record(msgspec.Struct):
    image: list[str] | str
    question: str
    response: _Response
    data_source: str
    policy_model: str = ""


@dataclass(frozen=True)
class Solution:
    """One solution of a question, with people's judgements of its steps."""

    line: int  # line of the benchmark file, from 1
    images: tuple[str, ...]
    question: str
    steps: tuple[str, ...]
    judgements: tuple[int, ...]  # one per step: 1 right, 0 neutral, -1 wrong
    source: str
    policy: str  # the model that wrote the solution; empty: unknown
    response: int = 0  # number of the response in its record, from 1; 0: the record is one solution
    record: int = 0  # line of the record, where ``line`` is a number of the solution itself

    @property
    def place(self) -> str:
        """Return where the solution is in the file, for an error."""
        return f"line {self.record}, response {self.response}" if self.response else f"line {self.line}"

    @property
    def question_key(self) -> str:
        """Key of the question: images and text, equal for all solutions of one question."""
        return "\n".join([*self.images, self.question])


def read_benchmark(url: str, marker: str = MARKER) -> list[Solution]:
    """Read the solutions of a JSONL file, which may be compressed; blank lines are skipped.

    Args:
        url: URL of the file.
        marker: The token at which rewards are read; it must not occur in a question or step.

    Raises:
        TrainingError: A line is malformed or contains ``marker`` (the error gives the line's number), or the
            file has no solutions.
        CorpusError: The file cannot be decompressed, or holds no JSON lines.
    """
    decoder = msgspec.json.Decoder(_Record)
    lines = chain.from_iterable(block.data.split(b"\n") for block in read_blocks(url, 0, sys.maxsize))
    solutions = [
        _solution(decoder, line, number, url, marker)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not solutions:
        raise TrainingError(f"solutions in {url}", "an empty file", "give another --benchmark")
    return solutions


def _solution(
    decoder: "msgspec.json.Decoder[_Record]", line: bytes, number: int, url: str, marker: str
) -> Solution:
    try:
        record = decoder.decode(line)
    except (msgspec.MsgspecError, ValueError) as error:
        raise _malformed(url, number, str(error)) from error
    steps = tuple(step.strip() for step in record.response.steps)
    judgements = record.response.process_correctness
    images = (record.image,) if isinstance(record.image, str) else tuple(record.image)
    question = record.question.strip()
    problems: dict[str, Any] = {
        "no image": not images,
        "no question": not question,
        "no steps": not steps,
        "an empty step": not all(steps),
        f"{len(steps)} steps but {len(judgements)} judgements": len(steps) != len(judgements),
        "a judgement that is not 1, 0 or -1": not set(judgements) <= {1, 0, -1},
        f"the marker {marker} in the text": any(marker in text for text in (question, *steps)),
    }
    for problem, holds in problems.items():
        if holds:
            raise _malformed(url, number, problem)
    return Solution(
        number, images, question, steps, tuple(judgements), record.data_source, record.policy_model
    )


def _malformed(url: str, number: int, found: str) -> TrainingError:
    return TrainingError(
        f"a record of VisualProcessBench's schema in line {number} of {url}", found, "correct the line"
    )
