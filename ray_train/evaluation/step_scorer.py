"""Score steps with a trained model in a program of one's own, such as best-of-N or a reward server."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias, Union

from bisieve.io.images import as_decoded, decode_image
from bisieve.io.storage import read_bytes
from ray_train.data.encode import Sample
from ray_train.evaluation.rewards import check_finite, filled
from ray_train.evaluation.scorer import Scorer

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

Picture: TypeAlias = Union[str, "Path", "Image"]  # path, URL, or an image in memory
Asked: TypeAlias = tuple[str, Sequence[Picture], Sequence[str]]  # question, images, steps


class StepScorer:
    """A trained model that gives every step of a solution its reward, P(positive).

    The model's own card decides its prompt, its tiles and its image library. A GPU is used if there is one.

    Args:
        model: Hub id, folder or URL of a model that ``bisieve train`` published, or of another one.
        max_length: Tokens that a solution may have; 0: as in training.
        risk: Standard deviations to subtract from the mean reward, for a model with a κ head.

    Raises:
        TrainingError: The model or its card cannot be read.
    """

    def __init__(self, model: str, max_length: int = 0, risk: float = 0.0) -> None:
        self._scorer = Scorer(str(model), max_length, max_tiles=0, risk=risk)

    def score(self, question: str, images: Sequence[Picture], steps: Sequence[str]) -> list[float]:
        """Return the reward of each step of one solution, as `score_batch` does."""
        return self.score_batch([(question, images, steps)])[0]

    def score_batch(self, solutions: Sequence[Asked]) -> list[list[float]]:
        """Return the rewards of several solutions, which go through the model together.

        Solutions of the same question and images share the computation of their prompt.

        Args:
            solutions: Question, images and steps of each; several of one question for best-of-N.

        Returns:
            For each solution one reward in [0, 1] per step; NaN for a step beyond the length limit, and for
            all steps of a solution whose text has a token of the prompt.

        Raises:
            ImageError: An image cannot be read or decoded, or the processor refuses it.
            StorageError: A path or URL cannot be read.
            TrainingError: A reward is no number, since the weights of the model are broken.
        """
        names = [[_name(image) for image in images] for _, images, _ in solutions]
        rewards = self._scorer.rewards(samples_of(solutions), names)
        check_finite(rewards)
        return filled(rewards, [steps for _, _, steps in solutions])


def samples_of(solutions: Sequence[Asked]) -> list[Sample]:
    """Return the solutions with decoded images, numbered from 0; equal images are the same object.

    Raises:
        ImageError: An image cannot be read or decoded.
        StorageError: A path or URL cannot be read.
    """
    pictures = {_key(image): image for _, images, _ in solutions for image in images}
    decoded = {key: _decoded(image) for key, image in pictures.items()}
    return [
        Sample(
            number, [decoded[_key(image)] for image in images], question.strip(),
            [step.strip() for step in steps], [0.0] * len(steps),
        )
        for number, (question, images, steps) in enumerate(solutions)
    ]  # fmt: skip


def _key(image: Picture) -> str | int:
    """Return what tells images apart: the path or URL, or the object in memory."""
    return str(image) if isinstance(image, str) or not hasattr(image, "save") else id(image)


def _name(image: Picture) -> str:
    return f"image {image}" if not hasattr(image, "save") else "an image in memory"


def _decoded(image: Picture) -> "Image":
    """Return the image as evaluation decodes it: upright, opaque, in RGB."""
    if isinstance(image, str) or not hasattr(image, "save"):
        return decode_image(read_bytes(str(image)), _name(image))
    return as_decoded(image, _name(image))  # type: ignore[arg-type]  # a path has no save
