"""Score the solutions of a file with a trained model or a server: ``bisieve predict``.

    JSONL ──read, all lines──▶ solutions ──StepScorer or StepClient──▶ the same records with rewards

No Ray is started: this process scores, in the order of the lines. Solutions of one question that follow each
other share the computation of their prompt.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import msgspec

from bisieve import console
from bisieve._redact import without_secrets
from bisieve._text import pluralize
from bisieve.errors import TrainingError, UsageError
from bisieve.io.images import image_url, missing_images, refuse_missing
from bisieve.io.urls import canonical
from bisieve.shards.jsonl import read_blocks
from ray_train.choices import AGGREGATES, PARAGRAPHS, SPLITS
from ray_train.config_io import located, option, require
from ray_train.evaluation.candidates import steps_of
from ray_train.evaluation.picks import scores_of
from ray_train.model.metadata import check_model

if TYPE_CHECKING:
    from ray_train.evaluation.step_client import StepClient
    from ray_train.evaluation.step_scorer import StepScorer

    Judge: TypeAlias = StepScorer | StepClient


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Options of scoring the solutions of a file."""

    model: str = option("hub id, folder or URL of a model", location="model")
    input: str = option("URL of a JSONL file with a solution per line", location="url")
    image_root: str = option(
        "URL below which the images are; empty: the folder of the file", "", metavar="URL"
    )
    split: str = option("how a solution that is a text is split into steps", PARAGRAPHS, SPLITS)
    batch: int = option("solutions that go through the model at once", 16)
    max_length: int = option("tokens a solution may have; 0: as in training", 0)
    risk: float = option("standard deviations taken off the mean reward of a step, by a κ head", 0.0)
    server: str = option(
        "URL of a server of this model (vLLM, bisieve serve), which computes the rewards", "", metavar="URL"
    )

    GROUPS: ClassVar[dict[str, str]] = {"model": "model and places", "split": "how it is scored"}

    def check(self) -> None:
        """Check the values of all options.

        Raises:
            UsageError: A value is out of range, or options contradict each other.
        """
        require(self.batch >= 1, "batch", self.batch, "an integer of 1 or more")
        require(self.max_length >= 0, "max_length", self.max_length, "0 or more")
        if self.server and self.risk:
            raise UsageError("no --risk with --server, which has no κ head", str(self.risk), "leave out one")


class _Record(msgspec.Struct):
    question: str
    steps: list[str] | None = None
    text: str | None = None
    image: list[str] | str | None = None


@dataclass(frozen=True)
class _Line:
    record: dict[str, Any]  # as it is in the file
    question: str
    images: tuple[str, ...]  # names
    steps: tuple[str, ...]


def predict(config: PredictConfig) -> list[dict[str, Any]]:
    """Score all solutions of a file.

    Returns:
        The records of the file, in their order, with ``steps``, their ``rewards`` (None for a step without
        one: beyond the length limit, or in a solution with a token of the prompt in its text) and ``scores``
        of the solution by aggregate (of the steps that have a reward; None if none has).

    Raises:
        TrainingError: A line is malformed, or model or server cannot be used.
        ImageError: An image is missing or cannot be decoded.
    """
    config.check()
    root = canonical(config.image_root or canonical(config.input).rpartition("/")[0])
    lines = list(_lines(config.input, config.split))
    names = {name for line in lines for name in line.images}
    refuse_missing(root, missing_images(root, names), "correct --image-root or --input")
    judge = _judge(config)
    found: list[dict[str, Any]] = []
    with console.progress("scoring", len(lines), lines=True, on_stderr=True) as scored:
        for start in range(0, len(lines), config.batch):
            part = lines[start : start + config.batch]
            solutions = [
                (line.question, [image_url(root, name) for name in line.images], line.steps) for line in part
            ]
            found += map(_scored, part, judge.score_batch(solutions))
            scored(len(found))
    if unscored := sum(record["rewards"].count(None) for record in found):
        why = "solutions that are too long, or have a token of the prompt in the text"
        console.show_on_stderr(f"not scored: {pluralize(unscored, 'step')} of {why}")
    return found


def _judge(config: PredictConfig) -> "Judge":
    if config.server:
        console.status_on_stderr(f"asking the server at {without_secrets(config.server)}")
        from ray_train.evaluation.step_client import StepClient

        return StepClient(config.server, config.model, config.max_length)
    model = located(config).model
    check_model(model, "--model")  # before the slow import, so that a mistake is soon named
    console.phase("importing torch and transformers", on_stderr=True)
    from ray_train.evaluation.step_scorer import StepScorer

    console.phase(f"loading {config.model}", on_stderr=True)
    return StepScorer(model, config.max_length, config.risk)


def _scored(line: _Line, rewards: Sequence[float]) -> dict[str, Any]:
    known = [reward for reward in rewards if reward == reward]  # NaN differs from itself
    return {
        **line.record,
        "steps": list(line.steps),
        "rewards": [reward if reward == reward else None for reward in rewards],
        "scores": {name: scores_of([known], name)[0] for name in AGGREGATES},
    }


def _lines(url: str, split: str) -> Iterator[_Line]:
    """Yield the solutions of a file; blank lines are skipped.

    Raises:
        TrainingError: A line is malformed (the error gives its number), or there is none.
        CorpusError: The file cannot be decompressed, or holds no JSON lines.
    """
    empty = True
    rows = chain.from_iterable(block.data.split(b"\n") for block in read_blocks(url, 0, sys.maxsize))
    for number, row in enumerate(rows, start=1):
        if row.strip():
            empty = False
            yield _line(row, split, f"line {number} of {url}")
    if empty:
        raise TrainingError(f"solutions in {url}", "an empty file", "give another --input")


def _line(row: bytes, split: str, where: str) -> _Line:
    try:
        record = json.loads(row)
        known = msgspec.convert(record, _Record)
        # NaN, infinity and halves of characters are read, but there is no JSON to write them in again.
        json.dumps(record, ensure_ascii=False, allow_nan=False).encode()
    except json.JSONDecodeError as error:
        raise _malformed(where, f"broken JSON at its character {error.pos + 1}: {error.msg}") from error
    except RecursionError as error:
        raise _malformed(where, "JSON that is nested too deep") from error
    except (ValueError, msgspec.ValidationError) as error:
        raise _malformed(where, str(error)) from error
    both = known.steps is not None and known.text is not None
    steps = steps_of(known.text if known.steps is None else known.steps, split) if not both else ()
    if not steps or not known.question.strip():
        missing = "steps and text" if both else "no question" if not known.question.strip() else "no steps"
        raise _malformed(where, missing)
    images = [known.image] if isinstance(known.image, str) else known.image or []
    if not all(map(str.strip, images)):
        raise _malformed(where, "an image without a name")
    return _Line(record, known.question.strip(), tuple(images), steps)


def _malformed(where: str, found: str) -> TrainingError:
    return TrainingError(
        f"a question with the steps or the text of a solution in {where}", found, "correct it"
    )
