"""Pack rollouts into one sequence in which each prompt (images and question) occurs once.

    [image and question] [steps of rollout 1] [of rollout 2] … | [another prompt] [its rollouts] …
    block ──────────────────────────────────────────────────   block ─────────────────────────
    pack ────────────────────────────────────────────────────────────────────────────────────

Packing is exact: each token has the position and the attention context that it has when its rollout is a row
of its own, so loss and gradient are equal to those of rows. An image is encoded once per block, and there is
no padding.

    Sample ──PromptReader.read──▶ PromptTokens ──block_of──▶ PromptBlock ──joined──▶ Batch (one pack)

`Packer` drives this; `model.packed_attention` computes the attention of a pack. A process that trains on the
same rollouts several times keeps what is read of them in a `PromptMemory`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

import torch

from ray_train.data.encode import Encoder, Sample, aligned_targets, filler, transparent_images
from ray_train.model.backbone import Backbone
from ray_train.model.packed_attention import Extent
from ray_train.model.reward import NO_ROW, Batch

COUNTS = ("shortened", "skipped", "transparent", "unclear")  # fields of `PromptTokens`, summed over a pack
_FULL = 2**30  # bytes of pixels from which on no further prompt is kept

Images = tuple[str, ...]  # names of the images of a rollout
Key = tuple[Images, str, tuple[tuple[str, ...], ...]]  # images, question, steps of each rollout
# Tokens [length] of one rollout and its image inputs -> positions [length] or [axes, length].
Positions = Callable[[torch.Tensor, dict[str, torch.Tensor]], torch.Tensor]


@dataclass(frozen=True)
class PromptTokens:
    """The tokenized rollouts of one prompt that can be trained on, maybe none."""

    samples: list[Sample]  # without their images
    rollouts: list[torch.Tensor]  # the tokens of each sample, int64 [length]
    shared: int  # tokens of the prefix that all rollouts share
    images: dict[str, torch.Tensor]  # the processor's image inputs, each stacked along its first axis
    shortened: int  # samples that lost trailing steps
    skipped: int  # samples that were left out
    transparent: int = 0  # images that were put on white
    unclear: int = 0  # samples whose image placeholders do not match their images one to one
    broken: dict[str, str] = field(default_factory=dict)  # broken image -> reason; its rollouts are left out


@dataclass(frozen=True)
class PromptReader:
    """Tokenizer of one prompt's rollouts."""

    encoder: Encoder
    image_inputs: tuple[str, ...]  # names of the tensors that the processor makes from images
    slot_id: int  # the token of an image in the text, before the processor repeats it

    def read(self, samples: Sequence[Sample]) -> PromptTokens:
        """Return the tokens of ``samples``, which must have the same images (PIL) and question.

        Samples are shortened or skipped as in `Encoder.encode`. The images are processed once.
        """
        counts: Any = {"transparent": transparent_images(samples), "unclear": self.encoder.unclear(samples)}
        clear = [sample for sample in samples if not self.encoder.is_ambiguous(sample)]
        if not clear:
            return PromptTokens([], [], 0, {}, 0, len(samples), **counts)
        head, images = self._images(clear[0])
        pairs = zip(clear, self._tails(clear), strict=True)
        fitting = [  # a filler has to stay, whatever the limit
            sample if sample.row == NO_ROW else self.encoder.shortened(sample, torch.cat([head, tail]))
            for sample, tail in pairs
        ]
        shortened = sum(0 < len(s.steps) < len(c.steps) for s, c in zip(fitting, clear, strict=True))
        kept = [replace(sample, images=()) for sample in fitting if sample.steps]
        tails = self._tails([sample for sample in fitting if sample.steps])
        shared = len(head) + _shared_length(tails, self.encoder.marker_id)
        rollouts = [torch.cat([head, tail]) for tail in tails]
        skipped = len(samples) - len(kept)
        return PromptTokens(kept, rollouts, shared, images, shortened, skipped, **counts)

    def _images(self, sample: Sample) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the tokens of ``sample`` through its last image, int64 ``[length]``, and image inputs."""
        if not sample.images:
            return torch.tensor([], dtype=torch.int64), {}
        (tail,) = self._tails([sample])
        options = self.encoder.format.options_for(len(sample.images))
        text, images = [self.encoder.text(sample)], [self.encoder.images(sample)]
        inputs = self.encoder.processor(images=images, text=text, return_tensors="pt", **options)
        tokens = inputs["input_ids"][0]
        return tokens[: len(tokens) - len(tail)], {name: inputs[name] for name in self.image_inputs}

    def _tails(self, samples: Sequence[Sample]) -> list[torch.Tensor]:
        """Return the tokens of each sample after its last image slot, int64 ``[length]`` each.

        The text is tokenized without the processor, so each slot is still one token.
        """
        if not samples:
            return []
        texts = [self.encoder.text(sample) for sample in samples]
        return [_after_last(self.slot_id, ids) for ids in self.encoder.processor.tokenizer(texts).input_ids]


def _after_last(token: int, ids: Sequence[int]) -> torch.Tensor:
    return torch.tensor(ids[len(ids) - ids[::-1].index(token) :] if token in ids else ids)


def _shared_length(tails: Sequence[torch.Tensor], marker_id: int) -> int:
    """Return the length of the common prefix of ``tails``, which ends before the first marker.

    Each rollout needs its own markers, since its labels belong to them.
    """
    columns = zip(*(tail.tolist() for tail in tails), strict=False)
    return sum(1 for _ in takewhile(lambda each: len(set(each)) == 1 and each[0] != marker_id, columns))


@dataclass(frozen=True)
class PromptBlock:
    """The rollouts of one prompt, or some of them: the shared prefix once, then the rest of each rollout."""

    tokens: torch.Tensor  # int64 [length]
    positions: torch.Tensor  # int64 [length], or [axes, length] for multi-axis RoPE
    extent: Extent
    images: dict[str, torch.Tensor]  # the processor's image inputs, each stacked along its first axis
    samples: list[Sample]


def block_of(
    rollouts: Sequence[torch.Tensor],
    prompt: int,
    positions: Positions,
    images: dict[str, torch.Tensor],
    samples: list[Sample],
) -> PromptBlock:
    """Return the block of ``rollouts``.

    Args:
        rollouts: tokens of each rollout, int64 ``[length]``.
        prompt: number of leading tokens that are equal in all of them.
        positions: computes the positions of one rollout from its tokens and ``images``.
        images: the processor's image inputs.
        samples: one per rollout.
    """
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
    """Return the model's inputs for a pack of blocks, at least one of which has images.

    Returns:
        ``input_ids`` int64 ``[1, length]``; ``position_ids`` int64 ``[1, length]`` or ``[axes, 1, length]``;
        ``extents``, a list with the `Extent` of each block; and the image inputs of all blocks, concatenated
        along their first axis.
    """
    with_images = [block.images for block in pack if block.images]
    images = {name: torch.cat([each[name] for each in with_images]) for name in with_images[0]}
    return images | {
        "input_ids": torch.cat([block.tokens for block in pack])[None],
        "position_ids": torch.cat([block.positions for block in pack], dim=-1).unsqueeze(-2),
        "extents": [block.extent for block in pack],
    }


@dataclass(frozen=True)
class Packer:
    """Maker of packs of up to ``budget`` tokens."""

    reader: PromptReader
    positions: Positions
    budget: int  # tokens

    def packs(self, prompts: Iterable[Sequence[Sample]]) -> Iterator[Batch]:
        """Yield packs of ``prompts``, each a sequence of samples with the same images and question."""
        return self.packed(map(self.reader.read, prompts))

    def packed(self, prompts: Iterable[PromptTokens]) -> Iterator[Batch]:
        """Yield packs of ``prompts`` in their order, at least one.

        A rollout that is longer than the budget gets a pack of its own. A pack without images gets a filler.
        """
        pack: list[PromptBlock] = []
        counts: Counter[str] = Counter()
        broken: dict[str, str] = {}
        for prompt in prompts:
            for block in self._blocks(prompt):
                if pack and sum(b.extent.length for b in pack) + block.extent.length > self.budget:
                    yield self._batch(self._with_an_image(pack), counts, broken)
                    pack, counts, broken = [], Counter(), {}
                pack.append(block)
            counts.update({name: getattr(prompt, name) for name in COUNTS})
            broken |= prompt.broken
        yield self._batch(self._with_an_image(pack), counts, broken)

    def _with_an_image(self, pack: list[PromptBlock]) -> list[PromptBlock]:
        """Return ``pack``, with a filler's blocks appended if it has no image: see `encode.with_an_image`."""
        if any(block.images for block in pack):
            return pack
        return [*pack, *self._blocks(self.reader.read([filler()]))]

    def _blocks(self, prompt: PromptTokens) -> list[PromptBlock]:
        """Return a prompt's blocks: one, several if its rollouts exceed the budget, none without rollouts."""
        rollouts, shared = prompt.rollouts, prompt.shared
        return [
            block_of(rollouts[part], shared, self.positions, prompt.images, prompt.samples[part])
            for part in self._parts(shared, [len(tokens) - shared for tokens in rollouts])
        ]

    def _parts(self, prompt: int, own: Sequence[int]) -> Iterator[slice]:
        """Yield slices of the rollouts that fit the budget, each with the prompt repeated.

        A slice of a single rollout may exceed it.
        """
        start, length = 0, prompt
        for number, tokens in enumerate(own):
            if number > start and length + tokens > self.budget:
                yield slice(start, number)
                start, length = number, prompt
            length += tokens
        if own:
            yield slice(start, len(own))

    def _batch(self, pack: Sequence[PromptBlock], counts: Counter[str], broken: dict[str, str]) -> Batch:
        inputs = joined(pack)
        samples = [sample for block in pack for sample in block.samples]
        markers = [count for block in pack for count in _markers(block, self.reader.encoder.marker_id)]
        targets = aligned_targets(samples, markers)
        rows = [sample.row for sample in samples if sample.row != NO_ROW]
        number: Any = {name: counts[name] for name in COUNTS}
        kept_steps = [len(sample.steps) for sample in samples]
        return Batch(inputs, *targets, kept_steps, rows, broken=broken, **number)


def make_packer(backbone: Backbone, encoder: Encoder, budget: int) -> Packer:
    """Return the packer of ``backbone``, for packs of up to ``budget`` tokens.

    The model must be set up by `packed_attention.read_packs` before it gets packs.
    """
    family, model = backbone.family, backbone.model
    slot_id = backbone.token_id(family.image_token(backbone.processor.tokenizer))
    reader = PromptReader(encoder, family.image_inputs, slot_id)
    return Packer(reader, lambda tokens, images: family.positions(model, tokens, images), budget)


def _markers(block: PromptBlock, marker_id: int) -> list[int]:
    """Return the number of markers of each rollout of ``block``.

    The shared prefix has no marker; if it had one, it would count for every rollout and fail the alignment
    check.
    """
    at, (shared, own) = block.tokens == marker_id, block.extent
    in_prompt = int(at[:shared].sum())
    return [in_prompt + int(part.sum()) for part in at[shared:].split_with_sizes(own)] if own else [in_prompt]


@dataclass
class PromptMemory:
    """Prepared prompts by their images, question and steps; the pixels of an image are kept once.

    It serves one backbone, prompt format and image root only.
    """

    _prompts: dict[Key, PromptTokens] = field(default_factory=dict)
    _pixels: dict[Images, dict[str, torch.Tensor]] = field(default_factory=dict)
    _bytes: int = 0

    def get(self, samples: Sequence[Sample]) -> PromptTokens | None:
        """Return the tokens of ``samples`` (of one prompt) with their own targets; None if not kept."""
        if not samples or (kept := self._prompts.get(_key(samples))) is None:
            return None
        return replace(kept, samples=[replace(sample, images=()) for sample in samples])

    def keep(self, samples: Sequence[Sample], tokens: PromptTokens) -> None:
        """Keep ``tokens``, unless steps or rollouts were left out, or the memory is full."""
        if not samples or tokens.shortened or tokens.skipped or tokens.broken or self._bytes > _FULL:
            return
        images, question, steps = _key(samples)
        if images not in self._pixels:
            self._pixels[images] = tokens.images
            self._bytes += sum(each.nbytes for each in tokens.images.values())
        self._prompts[images, question, steps] = replace(tokens, samples=[], images=self._pixels[images])


def _key(samples: Sequence[Sample]) -> Key:
    images: Any = samples[0].images  # not decoded: `images.StoredImage`
    steps = tuple(tuple(sample.steps) for sample in samples)
    return tuple(image.name for image in images), samples[0].question, steps
