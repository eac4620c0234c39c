"""Read a benchmark: solutions whose steps people have judged, in VisualProcessBench's schema.

A file claims to be VisualProcessBench (arXiv 2503.10291), or a part of it, if it has no sources but the five
of the benchmark. It is the whole benchmark, and its results can be compared with published ones, only if all
its counts are equal to the published ones (`published_counts`).
"""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from bisieve.errors import TrainingError
from bisieve.records.prompt import MARKER
from bisieve.shards.jsonl import read_blocks

WHOLE, PART, OTHER = "whole", "part", "other counts"


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
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
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


class Counts(NamedTuple):
    """The counts of a source."""

    solutions: int
    right: int  # steps
    wrong: int  # steps; neutral ones are in neither


# By the paper's names; those in the file may have more behind a "_", such as MMMU_DEV_VAL or MathVision_MINI.
VISUALPROCESSBENCH = {
    "MMMU": Counts(267, 1698, 708),
    "MathVision": Counts(712, 3875, 2350),
    "MathVerse": Counts(1026, 5767, 2960),
    "DynaMath": Counts(570, 3469, 1091),
    "WeMath": Counts(291, 1776, 582),
}


def published_counts(solutions: Sequence[Solution]) -> dict[str, Any] | None:
    """Compare the counts of a benchmark with the published ones.

    Returns:
        ``is``: `WHOLE` if all are equal, `PART` if none is larger, else `OTHER`; and ``different``: by source
        and kind the count found and the published one. None if the file does not claim to be
        VisualProcessBench.
    """
    found = counts_of(solutions)
    if not found.keys() <= VISUALPROCESSBENCH.keys():
        return None
    found = {source: found.get(source, Counts(0, 0, 0)) for source in VISUALPROCESSBENCH}
    pairs = {
        source: {
            kind: [getattr(found[source], kind), getattr(published, kind)]
            for kind in Counts._fields
            if getattr(found[source], kind) != getattr(published, kind)
        }
        for source, published in VISUALPROCESSBENCH.items()
    }
    different = {source: counts for source, counts in pairs.items() if counts}
    smaller = all(own < known for counts in pairs.values() for own, known in counts.values())
    return {"is": WHOLE if not different else PART if smaller else OTHER, "different": different}


def counts_of(solutions: Sequence[Solution]) -> dict[str, Counts]:
    """Return the counts of each source, by the paper's name for it."""
    known = {name.casefold(): name for name in VISUALPROCESSBENCH}
    names = [solution.source.partition("_")[0] for solution in solutions]
    names = [known.get(name.casefold(), name) for name in names]
    number = Counter(names)
    steps = Counter(
        (name, judged)
        for name, solution in zip(names, solutions, strict=True)
        for judged in solution.judgements
    )
    return {source: Counts(number[source], steps[source, 1], steps[source, -1]) for source in number}


def published_line(found: dict[str, Any] | None) -> str:
    """Return the result of `published_counts` as a line for the user; "" if there is nothing to say."""
    if found is None:
        return ""
    if found["is"] == WHOLE:
        return "VisualProcessBench, with the published counts of solutions and steps in every source"
    source, counts = next(iter(found["different"].items()))
    (kind, (own, known)), *_ = counts.items()
    what = "a part of VisualProcessBench" if found["is"] == PART else "VisualProcessBench, but other counts"
    unit = "solutions" if kind == "solutions" else f"{kind} steps"
    difference = f"{own:,} {unit} of {source} instead of {known:,}"
    return f"note: {what}: {difference}; do not compare with published results"


def repeated_solutions(solutions: Sequence[Solution]) -> int:
    """Return how many solutions equal an earlier one: in question, steps and writer."""
    return len(solutions) - len({(each.question_key, each.steps, each.policy) for each in solutions})


def repeated_line(repeated: int) -> str:
    """Return the result of `repeated_solutions` as a line for the user; "" if there is nothing to say."""
    solutions = "1 solution is" if repeated == 1 else f"{repeated:,} solutions are"
    return f"note: {solutions} as an earlier one of the benchmark; each counts" if repeated else ""
