"""A rollout of several images, tiles and placeholders is read as by transformers, in rows and in packs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.plain_rewards import PlainModel, load_plain

from ray_train.choices import FAMILY
from ray_train.data.encode import Sample, make_encoder
from ray_train.data.packing import make_packer
from ray_train.model.backbone import load_backbone
from ray_train.model.packed_attention import read_packs
from ray_train.model.prompt_format import format_of
from ray_train.model.reward import reward_model, step_rewards

SOLUTIONS = [["We look.", "It is 3.", "So 7."], ["We look.", "It is 4."]]  # of one prompt
TOLERANCE = 1e-6
SIZES = [(90, 40), (40, 75), (60, 60)]


@dataclass(frozen=True)
class Prompt:
    """A question and, written out by hand, what the model is to read of it."""

    question: str
    text: str  # in front of the steps, with ``[image]`` in the place of each image
    order: Sequence[int] = (0,)  # the images of these places


PROMPTS = [
    Prompt("How many?", "[image]\nQuestion: How many?"),
    Prompt("Is <image> dark?", "Question: Is [image] dark?"),
    Prompt("Same?", "[image]\n[image]\n[image]\nQuestion: Same?", (0, 1, 2)),
    Prompt(
        "Image-1: <image>\nImage-2: <image>\nSame?",
        "Question: Image-1: [image]\nImage-2: [image]\nSame?",
        (0, 1),
    ),
    Prompt("Is <image2> as <image 1>?", "Question: Is [image] as [image]?", (1, 0)),
]


def picture(size: tuple[int, int]) -> Image.Image:
    """Return an image that is other in each of its places and from that of another size."""
    red, green = (Image.linear_gradient("L").rotate(turn).resize(size) for turn in (0, 90))
    return Image.merge("RGB", (red, green, Image.new("L", size, size[0] % 256)))


def expected_rewards(
    plain: PlainModel, prompt: Prompt, images: Sequence[Image.Image], tiles: int
) -> list[float]:
    """Return what transformers gives for each step of the solutions, with up to ``tiles`` an image."""
    rewards = []
    for steps in SOLUTIONS:
        process = "\n\n".join(f"{step}<prm>" for step in steps)
        rewards += plain.read(f"{prompt.text}\nProcess: {process}", images, tiles)
    return rewards


def check_rewards(
    folder: Path, prompts: Sequence[Prompt], sizes: Sequence[tuple[int, int]], budget: int
) -> None:
    """Compare with transformers; the images of a prompt, of the first ``sizes``, share ``budget`` tiles."""
    plain = load_plain(folder)
    backbone = load_backbone(str(folder), torch.float32)
    format = format_of(backbone.family, backbone.processor.tokenizer, budget, FAMILY)
    encoder = make_encoder(backbone, format, 4096)
    model = reward_model(backbone, format).eval()
    expected, batches = [], []
    for prompt in prompts:
        images = [picture(sizes[number]) for number in range(len(prompt.order))]
        in_order = [images[number] for number in prompt.order]
        tiles = max(1, budget // len(images))
        expected.append(expected_rewards(plain, prompt, in_order, tiles))
        if len(images) > 1:
            exchanged = expected_rewards(plain, prompt, in_order[::-1], tiles)
            assert expected[-1] != pytest.approx(exchanged, abs=3 * TOLERANCE), "images are told apart"
        batches.append([
            Sample(row, images, prompt.question, steps, [0.0] * len(steps))
            for row, steps in enumerate(SOLUTIONS)
        ])  # fmt: skip
    with torch.inference_mode():
        for samples, rewards in zip(batches, expected, strict=True):
            assert step_rewards(model(encoder.encode(samples).inputs)).tolist() == pytest.approx(
                rewards, abs=TOLERANCE
            )
        if backbone.family.why_no_packs:
            return
        read_packs(backbone.model)
        (pack,) = make_packer(backbone, encoder, 10**6).packs(batches)
        every = [reward for rewards in expected for reward in rewards]
        assert step_rewards(model(pack.inputs)).tolist() == pytest.approx(every, abs=TOLERANCE)


def test_images_are_read_where_they_are_placed_with_the_tiles_they_share(hub_checkpoint: Path) -> None:
    check_rewards(hub_checkpoint, PROMPTS, SIZES, 1 if hub_checkpoint.name == "Gemma3" else 6)


def test_images_that_are_larger_than_their_share_are_cut_or_shrunk_to_it(folder: Path) -> None:
    check_rewards(folder, PROMPTS[:4], [(640, 420), (500, 700), (300, 900)], 3)
