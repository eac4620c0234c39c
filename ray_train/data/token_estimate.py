"""Estimate the tokens of every rollout of a selection, so that ranks can be given equal work.

Images are counted exactly, from their sizes and by the processor's own rule. Text is not tokenized: its bytes
are divided by the bytes per token of a sample. The estimate decides which rank computes a rollout, and never
which rollouts are in a global batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from bisieve.records.model import Rollout
from ray_train.data.image_sizes import Size

_SAMPLE = 64  # rollouts whose text is tokenized
_STEP = 2  # tokens of the marker and the separator behind a step
_UNKNOWN = (448, 448)  # the size of an image whose header cannot be read: one tile

Counts = npt.NDArray[np.int32]


@dataclass(frozen=True)
class RolloutSize:
    """What is remembered of a rollout."""

    images: tuple[str, ...]
    question: int  # UTF-8 bytes
    steps: int  # UTF-8 bytes
    num_steps: int


@dataclass(frozen=True)
class TokenEstimate:
    """Tokens by row of the selection."""

    shared: Counts  # int32 [rows], of image and question, which a pack holds once a prompt
    own: Counts  # int32 [rows], of everything else

    @classmethod
    def equal(cls, num_rows: int) -> "TokenEstimate":
        """Return an estimate in which all rollouts have one token."""
        return cls(np.zeros(num_rows, np.int32), np.ones(num_rows, np.int32))

    @property
    def fingerprint(self) -> str:
        """Names the estimate: equal ones have equal fingerprints on any machine."""
        both = np.concatenate([self.shared, self.own]).astype("<i4")
        return xxhash.xxh3_64_hexdigest(both.tobytes())


def size_of(rollout: Rollout) -> RolloutSize:
    """Return what an estimate needs of ``rollout``."""
    texts = [step.encode() for step in rollout.steps]
    return RolloutSize(
        rollout.images, len(rollout.question.encode()), sum(map(len, texts)), len(rollout.steps)
    )


def estimate_tokens(
    rollouts: Sequence[RolloutSize],
    sizes: Mapping[str, Size | None],
    image_tokens: Callable[[Size, int], int],
    bytes_per_token: float,
    max_length: int,
    packed: bool,
) -> TokenEstimate:
    """Return the estimated tokens of ``rollouts``.

    Args:
        rollouts: one a row of the selection.
        sizes: of images by name; None or absent where unknown.
        image_tokens: tokens of an image, given its size and the number of images of its rollout.
        bytes_per_token: of text.
        max_length: tokens after which a rollout loses steps.
        packed: whether packs are made, which hold the image and question of a prompt once; else each rollout
            has its own.
    """
    counted = cache(image_tokens)
    shared = np.zeros(len(rollouts), np.int32)
    own = np.zeros(len(rollouts), np.int32)
    for row, rollout in enumerate(rollouts):
        images = sum(counted(sizes.get(name) or _UNKNOWN, len(rollout.images)) for name in rollout.images)
        shared[row] = min(max_length, images + round(rollout.question / bytes_per_token))
        steps = round(rollout.steps / bytes_per_token) + _STEP * rollout.num_steps
        own[row] = min(max_length - int(shared[row]), steps)
    return TokenEstimate(shared, own) if packed else TokenEstimate(np.zeros_like(shared), shared + own)


def measured_bytes_per_token(tokenizer: Any, texts: Sequence[str]) -> float:
    """Return the UTF-8 bytes per token of ``texts``, 4 where there is no text."""
    tokens = (
        sum(len(ids) for ids in tokenizer(list(texts), add_special_tokens=False).input_ids) if texts else 0
    )
    return sum(len(text.encode()) for text in texts) / tokens if tokens else 4.0


def sample_rows(num_rows: int) -> list[int]:
    """Return evenly spaced rows, at most 64: those whose text is tokenized."""
    return sorted({row * num_rows // _SAMPLE for row in range(_SAMPLE)}) if num_rows else []


def counting_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``options`` of a processor as its counting of tokens has them: ``size`` by its old names."""
    named = dict(options)
    if size := named.pop("size", None):
        named |= {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}
    return named


def image_counter(
    processor: Any, image_options: Callable[[int], dict[str, Any]], tiles: int
) -> Callable[[Size, int], int]:
    """Return a function that counts the tokens of an image of a size, one of several of its rollout.

    The images of a rollout share its budget of ``tiles``. An image that the processor refuses counts as one
    of one tile.
    """

    def tokens(size: Size, images: int) -> int:
        options = counting_options(image_options(max(1, tiles // images)))
        width, height = size
        try:
            counts = processor._get_num_multimodal_tokens(image_sizes=[(height, width)], **options)
        except ValueError:  # too narrow for it; training names the image
            return tokens(_UNKNOWN, images)
        return int(counts.num_image_tokens[0])

    return tokens
