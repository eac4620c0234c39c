"""Give a whole solution one reward, as trainers by reinforcement learning want it: see ``examples/rl``.

text ──split──▶ steps ──StepScorer or StepClient──▶ a reward of each ──aggregate──▶ one reward
"""

import base64
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Protocol, TypeAlias

from bisieve.errors import ImageError, UsageError
from bisieve.io.images import DATA_URL, decode_image
from ray_train.choices import AGGREGATES, PARAGRAPHS, SPLITS
from ray_train.evaluation.candidates import steps_of
from ray_train.evaluation.picks import scores_of

if TYPE_CHECKING:
    from ray_train.evaluation.step_scorer import Asked, Picture

    Solved: TypeAlias = tuple[str, object, str | list[str] | None]  # question, images, solution


class StepJudge(Protocol):
    """What gives the steps of solutions their rewards: `StepScorer`, `StepClient`, or one of your own."""

    def score_batch(self, solutions: "Sequence[Asked]") -> list[list[float]]:
        """Return a reward per step of each solution; NaN for a step that has none."""


@dataclass(frozen=True)
class SolutionScore:
    """The reward of a solution, and those of its steps."""

    reward: float | None  # of the steps that have a reward; None: none has, or there is no step
    steps: tuple[float, ...]  # NaN: beyond the length limit, or a token of the prompt is in the text

    @property
    def unscored(self) -> int:
        """Return the number of steps without a reward."""
        return sum(map(math.isnan, self.steps))


class SolutionScorer:
    """A model that gives every solution one reward, the aggregate of those of its steps.

    Args:
        judge: What gives steps their rewards.
        aggregate: One of ``mean``, ``min``, ``last``, ``product`` and ``max``, as in best-of-N.
        split: How a text is split into steps: at blank lines (``paragraphs``) or at every line (``lines``).
        parallel: Whether several threads may ask the judge at the same time, as with a `StepClient`.

    Raises:
        UsageError: There is no such aggregate or split.
    """

    def __init__(
        self,
        judge: StepJudge,
        aggregate: str = AGGREGATES[0],
        split: str = PARAGRAPHS,
        parallel: bool = False,
    ) -> None:
        for name, given, allowed in (("aggregate", aggregate, AGGREGATES), ("split", split, SPLITS)):
            if given not in allowed:
                raise UsageError(f"one of {', '.join(allowed)} for {name}", repr(given), "give one of these")
        self._judge, self._aggregate, self._split = judge, aggregate, split
        self._turn: AbstractContextManager[object] = nullcontext() if parallel else Lock()

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] = os.environ) -> "SolutionScorer":
        """Return the scorer that the environment describes, for trainers that pass no options on.

        Args:
            variables: ``BISIEVE_SERVER``, the URL of a server, or ``BISIEVE_MODEL``, hub id, folder or
                URL of a model, or both; ``BISIEVE_AGGREGATE`` and ``BISIEVE_SPLIT``, if not the defaults.

        Raises:
            UsageError: Neither server nor model is given, or a value is not allowed.
            TrainingError: The server or the model cannot be used.
        """
        server, model = (variables.get(name, "") for name in ("BISIEVE_SERVER", "BISIEVE_MODEL"))
        choices = (
            variables.get("BISIEVE_AGGREGATE") or AGGREGATES[0],
            variables.get("BISIEVE_SPLIT") or PARAGRAPHS,
        )
        if server:
            return cls.of_server(server, model, *choices)
        if not model:
            raise UsageError("BISIEVE_SERVER or BISIEVE_MODEL in the environment", "neither", "set one")
        from ray_train.evaluation.step_scorer import StepScorer

        return cls(StepScorer(model), *choices)

    @classmethod
    def of_server(
        cls, url: str, model: str = "", aggregate: str = AGGREGATES[0], split: str = PARAGRAPHS
    ) -> "SolutionScorer":
        """Return a scorer that asks a server of vLLM or ``bisieve serve``; ``model`` as for `StepClient`.

        Raises:
            UsageError: There is no such aggregate or split.
            TrainingError: There is no such server, or the model or its card cannot be read.
        """
        from ray_train.evaluation.step_client import StepClient

        return cls(StepClient(url, model), aggregate, split, parallel=True)

    def score(self, question: str, images: object, solution: str | list[str] | None) -> SolutionScore:
        """Return the score of one solution, as `score_batch` does."""
        return self.score_batch([(question, images, solution)])[0]

    def score_batch(self, solutions: "Sequence[Solved]") -> list[SolutionScore]:
        """Return the score of each solution; those without steps are not sent to the judge.

        Args:
            solutions: Question, images (see `pictures_of`), and the text of a solution or the list of its
                steps. Placeholders such as ``<image>`` in the question are where its images are.

        Raises:
            UsageError: A question is no text, or a solution is neither a text nor a list of texts.
            ImageError: An image cannot be read or decoded.
            StorageError: A path or URL cannot be read.
        """
        for question, _, solution in solutions:
            _check_texts(question, solution)
        asked: list[Asked] = [
            (question, pictures_of(images), steps_of(solution, self._split))
            for question, images, solution in solutions
        ]
        with self._turn:
            some = [one for one in asked if one[2]]
            rewards = iter(self._judge.score_batch(some) if some else [])
        return [self._score(next(rewards) if steps else []) for _, _, steps in asked]

    def _score(self, rewards: Sequence[float]) -> SolutionScore:
        known = [reward for reward in rewards if not math.isnan(reward)]
        return SolutionScore(scores_of([known], self._aggregate)[0], tuple(rewards))


def _check_texts(question: object, solution: object) -> None:
    if not isinstance(question, str):
        raise UsageError("a text as question", repr(question)[:60], "correct the record of the trainer")
    parts = solution if isinstance(solution, list) else [solution]
    if solution is not None and not all(isinstance(part, str) for part in parts):
        raise UsageError(
            "a text or a list of steps as solution", repr(solution)[:60], "correct the record of the trainer"
        )


def pictures_of(given: object) -> "list[Picture]":
    """Return the images that a record of a trainer names.

    Args:
        given: None, one image or several: a path or URL, a ``data:`` URL, encoded bytes, an image of PIL, or
            a mapping with ``bytes`` or ``path``, as data sets of Hugging Face have it.

    Raises:
        ImageError: It is none of these, or bytes are no image.
    """
    if given is None:
        return []
    if isinstance(given, str | bytes | Mapping) or hasattr(given, "save") or hasattr(given, "__fspath__"):
        return [_picture(given)]
    try:
        return [_picture(each) for each in given]  # type: ignore[attr-defined]  # a list, tuple or array
    except TypeError as error:
        raise _no_image(given) from error


def _picture(given: object) -> "Picture":
    if isinstance(given, Mapping):
        given = given.get("bytes") or given.get("path")
    if isinstance(given, str) and given[:5].lower() == "data:":
        start = DATA_URL.match(given)
        if start is None:
            raise _no_image(given)
        try:  # base64 is often broken into lines
            given = base64.b64decode("".join(given[start.end() :].split()), validate=True)
        except ValueError as error:
            raise _no_image(given) from error
    if isinstance(given, bytes):
        return decode_image(given, "an image in memory")
    if isinstance(given, str) or hasattr(given, "save") or hasattr(given, "__fspath__"):
        return given  # type: ignore[return-value]  # a path, or an image of PIL
    raise _no_image(given)


def _no_image(given: object) -> ImageError:
    found = f"{given[:40]}…" if isinstance(given, str) else type(given).__name__
    return ImageError("a path, a URL, bytes or an image of PIL", found, "correct the images of the record")
