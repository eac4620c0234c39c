"""How many tokens the rollouts of a run come to, from a sample of them.

The sample goes through the feed that training uses, tokenizer and packing included; only pixels are not
made: the processor says how many tokens an image of a size would have.
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
from ray_train.data.image_cache import image_reader
from ray_train.data.labels import Targets
from ray_train.data.loader import RankLoader
from ray_train.data.packing import make_packer
from ray_train.data.sampler import BatchPlan
from ray_train.data.token_estimate import counting_options
from ray_train.model.backbone import Backbone
from ray_train.model.prompt_format import PromptFormat, format_of

SAMPLE = 256  # rollouts, a batch of one rank's at least

_PADDING = -1
_NO_PIXELS = "pixels"  # tells that there are images, and nothing of them


@dataclass(frozen=True)
class Tokens:
    """What the sampled rollouts come to."""

    rollouts: int = 0
    sequences: int = 0
    tokens: int = 0  # that the language model reads, padding included
    image_tokens: int = 0
    images: int = 0
    longest: int = 0  # tokens of the largest batch that goes through the model at once
    most_image_tokens: int = 0  # of such a batch
    shortened: int = 0  # rollouts that lose trailing steps
    skipped: int = 0  # rollouts that cannot be trained on
    transparent: int = 0  # images that are put on white
    unclear: int = 0  # rollouts whose placeholders do not tell the place of every image
    # Of those that are trained on: how many have so many placeholders for so many images.
    misfits: Counter[tuple[int, int]] = field(default_factory=Counter)
    broken: dict[str, str] = field(default_factory=dict, kw_only=True)  # images left out, and why


def sampled_tokens(
    config: TrainConfig, selection: Selection, plan: BatchPlan, targets: Targets, backbone: Backbone
) -> Tokens:
    """The tokens of the first rollouts of a run, in the packs, or rows, that ``config`` asks for.

    They are one rank's part of the first batches: random ones of the selection, prompts together or not.
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
    """Count the rollouts at ``rows`` whose images' places are unclear by (placeholders, images)."""
    rollouts = fetch_rollouts(selection.rows.take(pa.array(rows, pa.int64())), selection.shards)
    return Counter(
        (format.num_placeholders(rollout.question), len(rollout.images))
        for rollout in rollouts
        if format.is_unclear(rollout.question, len(rollout.images))
    )


@dataclass(frozen=True)
class CountingProcessor:
    """Stands in for a processor of text and images where only the number of tokens matters."""

    processor: Any
    slot: int  # id of the token that stands for an image until it is repeated

    @property
    def tokenizer(self) -> Any:
        """The processor's."""
        return self.processor.tokenizer

    def __call__(self, images: list[list[Any]], text: list[str], **options: Any) -> dict[str, torch.Tensor]:
        """``input_ids`` and ``attention_mask``, int64 ``[rows, length]``, padded to the right; no pixels."""
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
