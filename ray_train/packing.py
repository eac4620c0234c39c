"""Rollouts of the same prompt in one sequence in which the prompt stands once.

    [image and question] [steps of rollout 1] [of rollout 2] … | [another prompt] [its rollouts] …
    block ──────────────────────────────────────────────────   block ─────────────────────────
    pack ────────────────────────────────────────────────────────────────────────────────────

Exact: a token has the position it would have on its own and sees what it would see on its own, so loss and
gradient are those of one rollout a row.  An image is encoded once a block, and there is no padding.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch

from ray_train.backbone import Backbone
from ray_train.encoding import NO_ROW, Batch, Encoder, Sample, aligned_targets, filler
from ray_train.packed_attention import Extent


@dataclass(frozen=True)
class PromptBlock:
    """The rollouts of one prompt, or some of them."""

    tokens: torch.Tensor  # int64 [length]
    positions: torch.Tensor  # int64 [length] or [axes, length]
    extent: Extent
    images: dict[str, torch.Tensor]  # the processor's, each stacked along its first axis
    samples: list[Sample]


Positions = Callable[[torch.Tensor, dict[str, torch.Tensor]], torch.Tensor]  # of a rollout on its own


def block_of(
    rollouts: Sequence[torch.Tensor],
    prompt: int,
    positions: Positions,
    images: dict[str, torch.Tensor],
    samples: list[Sample],
) -> PromptBlock:
    """The block of ``rollouts``, int64 ``[length]`` each, whose first ``prompt`` tokens are the same."""
    places = [positions(tokens, images) for tokens in rollouts]
    if len(rollouts) == 1:
        return PromptBlock(rollouts[0], places[0], Extent(len(rollouts[0]), ()), images, samples)
    return PromptBlock(
        torch.cat([rollouts[0][:prompt], *(tokens[prompt:] for tokens in rollouts)]),
        torch.cat([places[0][..., :prompt], *(each[..., prompt:] for each in places)], dim=-1),
        Extent(prompt, tuple(len(tokens) - prompt for tokens in rollouts)),
        images,
        samples,
    )


def joined(pack: Sequence[PromptBlock]) -> dict[str, Any]:
    """The inputs of a model that reads packs."""
    with_images = [block.images for block in pack if block.images]
    images = {name: torch.cat([each[name] for each in with_images]) for name in with_images[0]}
    return images | {
        "input_ids": torch.cat([block.tokens for block in pack])[None],
        "position_ids": torch.cat([block.positions for block in pack], dim=-1).unsqueeze(-2),
        "extents": [block.extent for block in pack],
    }


@dataclass(frozen=True)
class Packer:
    """Makes packs of up to ``budget`` tokens."""

    encoder: Encoder
    positions: Positions
    image_inputs: tuple[str, ...]
    slot_id: int  # the token that stands for an image before the processor repeats it
    budget: int

    def packs(self, prompts: Iterable[Sequence[Sample]]) -> Iterator[Batch]:
        """Packs of ``prompts``, each the samples of one image and question, in their order; one at least.

        A sample that does not fit ``max_length`` is shortened or skipped as in `Encoder.encode`; one that is
        longer than the budget has a pack to itself.
        """
        pack: list[PromptBlock] = []
        shortened = skipped = 0
        for samples in prompts:
            blocks = self._blocks(samples)
            for block in blocks:
                if pack and sum(b.extent.length for b in pack) + block.extent.length > self.budget:
                    yield self._batch(self._with_an_image(pack), shortened, skipped)
                    pack, shortened, skipped = [], 0, 0
                pack.append(block)
            kept = {sample.row: len(sample.steps) for block in blocks for sample in block.samples}
            shortened += sum(kept.get(s.row, 0) not in (0, len(s.steps)) for s in samples)
            skipped += len(samples) - len(kept)
        yield self._batch(self._with_an_image(pack), shortened, skipped)

    def _with_an_image(self, pack: list[PromptBlock]) -> list[PromptBlock]:
        """As `encoding.with_an_image`."""
        return pack if any(block.images for block in pack) else [*pack, *self._blocks([filler()])]

    def _blocks(self, samples: Sequence[Sample]) -> list[PromptBlock]:
        """One block, or several where the rollouts of the prompt exceed the budget, or none if none fits."""
        clear = [sample for sample in samples if not self.encoder.is_ambiguous(sample)]
        if not clear:
            return []
        head, images = self._images(clear[0])
        pairs = zip(clear, self._tails(clear), strict=True)
        fitting = [self.encoder.shortened(sample, torch.cat([head, tail])) for sample, tail in pairs]
        kept = [sample for sample in fitting if sample.steps]
        tails = self._tails(kept) if kept else []
        prompt = len(head) + _shared_length(tails, self.encoder.marker_id)
        rollouts = [torch.cat([head, tail]) for tail in tails]
        return [
            block_of(rollouts[part], prompt, self.positions, images, kept[part])
            for part in self._parts(prompt, [len(tokens) - prompt for tokens in rollouts])
        ]

    def _parts(self, prompt: int, own: Sequence[int]) -> Iterator[slice]:
        """Slices of the rollouts that stay in the budget with a prompt of their own."""
        start, length = 0, prompt
        for number, tokens in enumerate(own):
            if number > start and length + tokens > self.budget:
                yield slice(start, number)
                start, length = number, prompt
            length += tokens
        if own:
            yield slice(start, len(own))

    def _images(self, sample: Sample) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The tokens of ``sample`` up to the end of its images, and what the vision encoder gets."""
        if not sample.images:
            return torch.tensor([], dtype=torch.int64), {}
        (tail,) = self._tails([sample])
        options = self.encoder.format.image_options
        text, images = [self.encoder.text(sample)], [list(sample.images)]
        inputs = self.encoder.processor(images=images, text=text, return_tensors="pt", **options)
        tokens = inputs["input_ids"][0]
        return tokens[: len(tokens) - len(tail)], {name: inputs[name] for name in self.image_inputs}

    def _tails(self, samples: Sequence[Sample]) -> list[torch.Tensor]:
        """The tokens of each sample behind its last image: a slot is not yet repeated for its image."""
        texts = [self.encoder.text(sample) for sample in samples]
        return [_after_last(self.slot_id, ids) for ids in self.encoder.processor.tokenizer(texts).input_ids]

    def _batch(self, pack: Sequence[PromptBlock], shortened: int, skipped: int) -> Batch:
        inputs = joined(pack)
        samples = [sample for block in pack for sample in block.samples]
        targets = aligned_targets(samples, int((inputs["input_ids"] == self.encoder.marker_id).sum()))
        rows = [sample.row for sample in samples if sample.row != NO_ROW]
        return Batch(inputs, *targets, [len(s.steps) for s in samples], rows, shortened, skipped)


def _after_last(token: int, ids: Sequence[int]) -> torch.Tensor:
    return torch.tensor(ids[len(ids) - ids[::-1].index(token) :] if token in ids else ids)


def _shared_length(tails: Sequence[torch.Tensor], marker_id: int) -> int:
    """How many first tokens all have in common, up to the first marker: each rollout needs its own."""
    columns = zip(*(tail.tolist() for tail in tails), strict=False)
    return sum(1 for _ in takewhile(lambda each: len(set(each)) == 1 and each[0] != marker_id, columns))


def make_packer(backbone: Backbone, encoder: Encoder, budget: int) -> Packer:
    """The packer of ``backbone``; its model must have been told to `read_packs`."""
    family, model = backbone.family, backbone.model
    return Packer(
        encoder,
        lambda tokens, images: family.positions(model, tokens, images),
        family.image_inputs,
        backbone.token_id(family.image_token(backbone.processor.tokenizer)),
        budget,
    )
