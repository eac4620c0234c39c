"""Compute the rewards of solutions with a model, whether bisieve trained it or not.

`Scorer` scores in one process; `ScoreBatches` is the same as a class for Ray Data's ``map_batches``.
Solutions of the same question and images that are scored together share the computation of their prompt, as
in training (`data.packing`), if the model can read packs.
"""

import pickle
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import torch

from bisieve.errors import BisieveError
from bisieve.io.images import load_image
from ray_train.choices import FAMILY, OWN_TOKENS, PAPER_EVAL, TRAINING, RewardTokens
from ray_train.data.encode import Encoder, Sample, make_encoder
from ray_train.data.packing import make_packer
from ray_train.data.workers import refusals_named
from ray_train.distributed.fault_tolerance import show_retries
from ray_train.evaluation.benchmark import Solution
from ray_train.evaluation.protocol import one_image, prompt_of
from ray_train.model.backbone import load_backbone, training_dtype
from ray_train.model.files import local_copy
from ray_train.model.metadata import read_card, require_kappa
from ray_train.model.packed_attention import read_packs, reads_packs
from ray_train.model.prompt_format import format_in, format_of
from ray_train.model.reward import Batch, load_kappa, reward_model, step_rewards

if TYPE_CHECKING:
    from PIL.Image import Image

DEFAULT_LENGTH = 8192  # tokens; the paper's


class Scorer:
    """A loaded model that gives every step its reward, P(positive).

    Args:
        model: Hub id, folder or URL.
        max_length: Tokens that a solution may have; 0: as in training, or else 8192.
        max_tiles: Tiles that an image may be cut into; 0: the default of the model's family.
        image_backend: Library that makes the pixels.
        risk: Standard deviations to subtract from the mean reward, from the model's κ head (BetaPRM).
        system: System turn, or one of the names of ``--system``.
        tokens: Marker and reward words.
        prompt: One of `choices.PROMPTS`.

    For a model that bisieve trained, the card beside it decides ``max_tiles``, ``image_backend``, ``system``
    and ``tokens``; the arguments are ignored.

    Raises:
        TrainingError: The model, its κ head or its card cannot be read.
    """

    def __init__(
        self,
        model: str,
        max_length: int,
        max_tiles: int,
        image_backend: str = "pil",
        risk: float = 0.0,
        system: str = FAMILY,
        tokens: RewardTokens = OWN_TOKENS,
        prompt: str = TRAINING,
    ) -> None:
        path = local_copy(model)
        card = read_card(path)
        if card is not None:
            format = format_in(card, path)
            max_length = max_length or card["config"]["max_length"]
            precision = card["config"].get("precision", "auto")
            backbone = load_backbone(path, training_dtype(precision), format.image_backend, format.marker)
        else:
            backbone = load_backbone(path, training_dtype("auto"), image_backend, tokens.marker)
            format = format_of(
                backbone.family, backbone.processor.tokenizer, max_tiles, system, image_backend
            )
            format = replace(format, **tokens._asdict())
        format = prompt_of(format, prompt)
        self._on_one_image = prompt == PAPER_EVAL
        max_length = max_length or DEFAULT_LENGTH
        self._encoder = make_encoder(backbone, format, max_length)
        self._packer = None
        if reads_packs(backbone.family, backbone.model):
            read_packs(backbone.model)
            self._packer = make_packer(backbone, self._encoder, budget=max_length)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._risk = risk
        self.counts: Counter[str] = Counter()  # transparent images and unclear places, over all calls
        has_kappa = risk > 0 or (card is not None and "kappa" in card)
        rewards = reward_model(backbone, format, has_kappa)
        if rewards.kappa is not None:
            load_kappa(rewards.kappa, Path(path, require_kappa(card, model)))
        self._model = rewards.to(self._device).eval()

    @property
    def encoder(self) -> Encoder:
        """Return the encoder by which the model reads solutions."""
        return self._encoder

    def score(self, solutions: Sequence[Solution], image_root: str) -> list[list[float]]:
        """Return the rewards of each solution, one per step, as `rewards` does.

        Raises:
            ImageError: An image cannot be decoded, or the processor refuses it.
        """
        return self.rewards_of(self.encode(solutions, image_root), len(solutions))

    def encode(self, solutions: Sequence[Solution], image_root: str) -> list[Batch]:
        """Return the model's inputs for ``solutions``, whose rows are their numbers, from 0.

        They depend on the model's tokenizer, image processor and prompt format, and not on its weights.

        Raises:
            ImageError: An image cannot be decoded, or the processor refuses it.
        """
        pictures = {each.images: self._pictures(each.images, image_root) for each in solutions}
        samples = [
            Sample(number, pictures[each.images], each.question, each.steps, [0.0] * len(each.steps))
            for number, each in enumerate(solutions)
        ]
        names = [[f"{name} of {each.place}" for name in self._per_image(each.images)] for each in solutions]
        return list(self._batches(samples, names))

    def rewards(self, samples: Sequence[Sample], names: Sequence[Sequence[str]]) -> list[list[float]]:
        """Return the rewards of each sample, one per step.

        There are fewer if trailing steps exceed the length limit, and none if the sample is skipped: if not
        even one step fits, or its text has a token of the prompt.

        Args:
            samples: With decoded images; their labels are not used, and they are numbered by their rows, from
                0. Samples with equal questions and the same image objects share a prompt.
            names: What each image of each sample is called in an error.

        Raises:
            ImageError: The processor refuses an image.
        """
        return self.rewards_of(self._batches(samples, names), len(samples))

    @torch.inference_mode()
    def rewards_of(self, batches: Iterable[Batch], number: int) -> list[list[float]]:
        """Return the rewards of ``number`` samples that are encoded as ``batches``; as `rewards`."""
        found: dict[int, list[float]] = {}
        for batch in batches:
            self.counts.update(transparent=batch.transparent, unclear=batch.unclear)
            rewards = step_rewards(self._model(batch.to(self._device).inputs), self._risk).cpu().tolist()
            kept = [steps for steps in batch.kept_steps if steps]
            # A filler has no row; it is the last one.
            for row, end, steps in zip(batch.rows, np.cumsum(kept), kept, strict=False):
                found[row] = rewards[end - steps : end]
        return [found.get(row, []) for row in range(number)]

    def _batches(self, samples: Sequence[Sample], names: Sequence[Sequence[str]]) -> Iterator[Batch]:
        """Yield the samples as packs, or as one batch of rows if the model cannot read packs."""
        with refusals_named(self._encoder, samples, names):
            if self._packer is None:
                yield self._encoder.encode(samples)
                return
            prompts: dict[tuple[Any, ...], list[Sample]] = {}
            for sample in samples:
                prompts.setdefault((sample.question, *map(id, sample.images)), []).append(sample)
            batches = list(self._packer.packs(prompts.values()))
        yield from batches

    def _per_image(self, names: Sequence[str]) -> list[str]:
        """Return a name for each image that the model sees."""
        return [" and ".join(names)] if self._on_one_image else list(names)

    def _pictures(self, names: Sequence[str], image_root: str) -> "list[Image]":
        images = [load_image(image_root, name) for name in names]
        return [one_image(images)] if self._on_one_image else images


class ScoreBatches:
    """The `Scorer` as a class for Ray Data: batches of solutions as JSON in, their rewards out.

    A `BisieveError` is returned as pickled data, since Ray Data keeps only the text of an exception. After
    the first error the remaining batches are not scored.

    Args:
        image_root: URL below which the images are.
        board: Handle of the `heartbeat.Board` actor, for lines about retries.
        scorer: Arguments of `Scorer`, which is loaded at the first batch.
    """

    def __init__(self, image_root: str, board: Any = None, **scorer: Any) -> None:
        show_retries(board, "scorer")
        self._board = board
        self._image_root = image_root
        self._options = scorer
        self._error: BisieveError | None = None

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(**self._options)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Score a batch.

        Args:
            batch: Column ``solution``: bytes, each a `Solution` as JSON.

        Returns:
            Columns ``line``, ``rewards`` (a list per solution), ``error`` (a pickled `BisieveError` or None),
            and the counts ``transparent`` and ``unclear``, to be summed.
        """
        solutions = [msgspec.json.decode(line, type=Solution) for line in batch["solution"]]
        rewards: list[list[float]] = [[] for _ in solutions]
        if self._error is None:
            try:
                rewards = self._scorer.score(solutions, self._image_root)
            except BisieveError as error:
                self._error = error
        if self._board is not None:
            self._board.count.remote(len(solutions))
        counts = Counter[str]() if self._error else self._scorer.counts.copy()
        if not self._error:
            self._scorer.counts.clear()
        errors = [pickle.dumps(self._error)] * len(solutions)
        lines = [solution.line for solution in solutions]
        # Ray Data returns columns of equal length: the counts of the batch are on its first row, 0 on others.
        noticed = {name: [counts[name], *[0] * (len(lines) - 1)] for name in ("transparent", "unclear")}
        return {"line": lines, "rewards": rewards, "error": errors, **noticed}
