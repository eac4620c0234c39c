"""Count the tokens of a run's rollouts from a sample of them.

The sample passes through training's own `RankLoader`, with tokenizer and packing, but no pixels are computed:
`CountingProcessor` asks the processor how many tokens an image of a given size has.
"""

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import torch

from bisieve.index.selection import Selection
from bisieve.shards.fetch import fetch_rollouts
from ray_train.config import TrainConfig
from ray_train.data.encode import make_encoder
from ray_train.data.images import image_reader
from ray_train.data.labels import Targets
from ray_train.data.loader import RankLoader
from ray_train.data.packing import make_packer
from ray_train.data.sampler import BatchPlan
from ray_train.data.token_estimate import counting_options
from ray_train.model.backbone import Backbone
from ray_train.model.prompt_format import PromptFormat, format_of

SAMPLE = 256  # rollouts at least; always one rank's whole share of a batch

_PADDING = -1
_NO_PIXELS = "pixels"  # input in place of the pixels, float32 [images, 0]


@dataclass(frozen=True)
class Tokens:
    """Counts of the sampled rollouts."""

    rollouts: int = 0  # trained on
    sequences: int = 0  # packs, or rows
    tokens: int = 0  # tokens that the language model reads, including padding
    image_tokens: int = 0
    images: int = 0
    longest: int = 0  # tokens of the largest micro-batch, including padding
    most_image_tokens: int = 0  # largest number of image tokens in a micro-batch
    shortened: int = 0  # rollouts that lose trailing steps
    skipped: int = 0  # rollouts that cannot be trained on
    transparent: int = 0  # images that are put on white
    unclear: int = 0  # rollouts whose image placeholders do not match their images one to one
    # (Placeholders, images) -> number of such rollouts among those that are trained on.
    misfits: Counter[tuple[int, int]] = field(default_factory=Counter)
    broken: dict[str, str] = field(default_factory=dict, kw_only=True)  # image -> reason


def sampled_tokens(
    config: TrainConfig, selection: Selection, plan: BatchPlan, targets: Targets, backbone: Backbone
) -> Tokens:
    """Return the token counts of the first rollouts of a run, in packs or rows as ``config`` has it.

    They are the shares of one rank in the first global batches, so a random sample of the selection: at least
    `SAMPLE` rollouts, if the first epoch has that many for the rank.

    Raises:
        TrainingError: The tokenizer lacks a token that the format needs.
        BisieveError: A rollout cannot be fetched, or an image cannot be read or decoded.
    """
    tokenizer, family = backbone.processor.tokenizer, backbone.family
    slot = backbone.token_id(family.image_token(tokenizer))
    counting = replace(backbone, processor=CountingProcessor(backbone.processor, slot))
    format = format_of(family, tokenizer, config.max_tiles, config.system, config.image_backend)
    encoder = make_encoder(counting, format, config.max_length)
    packer = make_packer(counting, encoder, config.pack_tokens) if config.pack_tokens else None
    if packer is not None:
        packer = replace(
            packer,
            reader=replace(packer.reader, image_inputs=(_NO_PIXELS,)),
            positions=lambda tokens, images: torch.arange(len(tokens)),
        )
    ranks = max(config.workers.least, math.ceil(config.global_batch / SAMPLE))
    feed = RankLoader(
        selection, replace(plan, epochs=1), encoder, packer, image_reader(config.image_root, 0), targets,
        config.micro_batch, 0, ranks, skip_broken=config.skip_broken_images > 0,
    )  # fmt: skip
    sums = Tokens()
    sampled: list[int] = []
    batches = feed.batches(0)
    for batch in batches:
        ids = batch.inputs["input_ids"]
        sampled += batch.rows
        images = int((ids == slot).sum())
        sums = Tokens(
            sums.rollouts + len(batch.rows),
            sums.sequences + len(ids) * bool(batch.rows),
            sums.tokens + ids.numel() * bool(batch.rows),
            sums.image_tokens + images * bool(batch.rows),
            sums.images + len(batch.inputs[_NO_PIXELS]) * bool(batch.rows),
            max(sums.longest, ids.numel()),
            max(sums.most_image_tokens, images),
            sums.shortened + batch.shortened,
            sums.skipped + batch.skipped,
            sums.transparent + batch.transparent,
            sums.unclear + batch.unclear,
            broken=sums.broken | batch.broken,
        )
        if batch.last and sums.rollouts >= SAMPLE:
            break
    batches.close()
    return replace(sums, misfits=_misfits(selection, sampled, format)) if sums.unclear else sums


def _misfits(selection: Selection, rows: list[int], format: PromptFormat) -> Counter[tuple[int, int]]:
    """Count the unclear rollouts among ``rows`` by their numbers of (placeholders, images)."""
    rollouts = fetch_rollouts(selection.rows.take(pa.array(rows, pa.int64())), selection.shards)
    return Counter(
        (format.num_placeholders(rollout.question), len(rollout.images))
        for rollout in rollouts
        if format.is_unclear(rollout.question, len(rollout.images))
    )


@dataclass(frozen=True)
class CountingProcessor:
    """Replacement of a processor that returns its tokens but computes no pixels."""

    processor: Any  # the real one
    slot: int  # id of the token of an image, which is repeated for each of its tokens

    @property
    def tokenizer(self) -> Any:
        """Return the tokenizer of the real processor."""
        return self.processor.tokenizer

    def __call__(self, images: list[list[Any]], text: list[str], **options: Any) -> dict[str, torch.Tensor]:
        """Return the inputs of a batch without pixels.

        Args:
            images: PIL images of each text.
            text: Texts with one slot for each image.
            options: Options of the processor's call.

        Returns:
            ``input_ids`` and ``attention_mask``, int64 ``[rows, length]``, padded on the right; and in place
            of the pixels a float32 tensor ``[images, 0]``.
        """
        for name in ("padding", "return_tensors"):
            options.pop(name, None)
        rows = []
        for ids, pictures in zip(self.tokenizer(text).input_ids, images, strict=True):
            sizes = [(picture.height, picture.width) for picture in pictures]
            counts = self.processor._get_num_multimodal_tokens(image_sizes=sizes, **counting_options(options))
            numbers = iter(counts.num_image_tokens)
            repeated = ([token] * next(numbers) if token == self.slot else [token] for token in ids)
            rows.append(torch.tensor([token for some in repeated for token in some]))
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=_PADDING)
        pixels = torch.zeros(sum(map(len, images)), 0)
        return {"input_ids": ids, "attention_mask": (ids != _PADDING).long(), _NO_PIXELS: pixels}
