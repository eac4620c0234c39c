"""What a replica does: load the model, decode images, and score the solutions of several requests together.

    Question ──decode images──▶ parts of at most --batch solutions ──Batcher──▶ Scorer ──▶ Scored

It knows nothing of Ray. Errors are returned and not raised, since Ray keeps only the text of an exception.
"""

import asyncio
import hashlib
import logging
import time
import warnings
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bisieve._text import one_line
from bisieve.errors import BisieveError, ImageError, TrainingError
from bisieve.io.images import decode_image
from ray_train.serving.batcher import Batcher
from ray_train.serving.config import ServeConfig
from ray_train.serving.question import Question, RefusedError, Scored, Served

if TYPE_CHECKING:
    from PIL.Image import Image

    from ray_train.evaluation.scorer import Scorer

_FAILED = 500
_UNLOADED = 503
_PATIENCE = 30.0  # seconds that a replica without a model tells why, before Ray Serve starts another one
_DECODERS = 2  # threads that decode images while the model computes


@dataclass(frozen=True)
class Part:
    """Solutions of one question that go through the model in one batch."""

    question: str
    images: "tuple[Image, ...]"
    solutions: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class PartScored:
    """The rewards of a part's solutions, and of how many solutions its batch was."""

    rewards: list[list[float]]
    batch: int


class Judge:
    """A model that answers questions, one of several replicas.

    Args:
        config: The options; the model is loaded at once.
    """

    def __init__(self, config: ServeConfig) -> None:
        self._config, self._begun = config, time.monotonic()
        self._images: weakref.WeakValueDictionary[str, Image] = weakref.WeakValueDictionary()
        self._decoding = ThreadPoolExecutor(_DECODERS, "decode")
        self._batched = Batcher(self._score_parts, lambda part: len(part.solutions), config.batch)
        self._in_memory = asyncio.Semaphore(2 * config.batch)  # questions whose images are decoded
        self._error: BisieveError | None = None
        try:
            self._scorer, self._served = load(config)
        except BisieveError as error:
            self._error = error
        except Exception as error:  # of transformers or torch, for a broken model
            found = one_line(error)
            self._error = TrainingError(f"a model that loads from {config.model}", found, "check --model")

    def served(self) -> Served | BisieveError:
        """Return what there is to know of the model, or why it could not be loaded."""
        return self._error or self._served

    def check_health(self) -> None:
        """Fail if the model could not be loaded, so that Ray Serve starts this replica again."""
        if self._error is not None and time.monotonic() > self._begun + _PATIENCE:
            raise RuntimeError(str(self._error))

    async def score(self, asked: Question) -> Scored | RefusedError:
        """Return the rewards of all solutions of a question, or why there are none."""
        if self._error is not None:
            expected, found, hint = self._error.args
            return RefusedError(expected, found, hint, _UNLOADED)
        async with self._in_memory:
            loop = asyncio.get_running_loop()
            try:
                images = await loop.run_in_executor(self._decoding, self._decoded, asked.images)
            except BisieveError as error:
                return _refused(error)
            size = self._config.batch
            starts = range(0, len(asked.solutions), size)
            parts = [Part(asked.question, images, asked.solutions[start : start + size]) for start in starts]
            done = await asyncio.gather(*map(self._batched, parts))
        for part in done:
            if isinstance(part, RefusedError):
                return part
        scored = [part for part in done if isinstance(part, PartScored)]
        rewards = [each for part in scored for each in part.rewards]
        return Scored(rewards, [part.batch for part in scored])

    def _decoded(self, images: Sequence[bytes]) -> "tuple[Image, ...]":
        """Return decoded images; equal ones of all questions in flight are the same object.

        Solutions of the same question and images share the computation of their prompt, also where each came
        in a request of its own.
        """
        decoded = []
        for number, data in enumerate(images, start=1):
            key = hashlib.sha256(data).hexdigest()
            image = self._images.get(key)
            if image is None:
                image = self._images[key] = decode_image(data, f"image {number}")
            decoded.append(image)
        return tuple(decoded)

    def _score_parts(self, parts: Sequence[Part]) -> list[PartScored | RefusedError]:
        """Score parts together; where that fails, each alone, so that one cannot spoil the others."""
        try:
            return score_parts(self._scorer, parts)
        except Exception as error:
            if len(parts) > 1:
                return [self._score_parts([part])[0] for part in parts]
            if isinstance(error, ImageError):
                return [_refused(error)]
            if isinstance(error, BisieveError):
                expected, found, hint = error.args
                return [RefusedError(expected, found, hint, _FAILED)]
            logging.getLogger(__name__).exception("scoring failed")
            found = one_line(error)
            return [RefusedError("rewards from the model", found, "see the log of the replica", _FAILED)]


def load(config: ServeConfig) -> "tuple[Scorer, Served]":
    """Load the model of ``config``, and return it with what there is to know of it.

    Raises:
        TrainingError: The model or its card cannot be read.
    """
    from PIL import Image

    from ray_train.evaluation.scorer import Scorer
    from ray_train.model.metadata import card_of

    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # --max-pixels is below its limit
    scorer = Scorer(config.model, config.max_length, max_tiles=0)
    encoder, card = scorer.encoder, card_of(config.model)
    run = str(card["run"]) if card else ""
    return scorer, Served(
        config.model, config.model, run, encoder.format, encoder.reserved, encoder.max_length
    )


def score_parts(scorer: "Scorer", parts: Sequence[Part]) -> list[PartScored | RefusedError]:
    """Score the solutions of several parts in one batch.

    Raises:
        ImageError: The model's processor refuses an image.
        TrainingError: A reward is no number, since the weights of the model are broken.
    """
    from ray_train.data.encode import Sample
    from ray_train.evaluation.rewards import check_finite, filled

    flat = [(part, steps) for part in parts for steps in part.solutions]
    samples = [
        Sample(number, part.images, part.question.strip(), steps, [0.0] * len(steps))
        for number, (part, steps) in enumerate(flat)
    ]
    names = [[f"image {number}" for number, _ in enumerate(part.images, start=1)] for part, _ in flat]
    found = scorer.rewards(samples, names)
    check_finite(found)
    rewards = iter(filled(found, [steps for _, steps in flat]))
    return [PartScored([next(rewards) for _ in part.solutions], len(flat)) for part in parts]


def _refused(error: BisieveError) -> RefusedError:
    """Return an error about an image as one about a request."""
    expected, found, _ = error.args
    return RefusedError(expected, found, "send another image")
