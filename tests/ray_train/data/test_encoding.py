"""Rollouts as tensors: the prompt, and what happens to a rollout that is too long."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from bisieve.errors import TrainingError
from ray_train.data.encoding import Encoder, Sample, filler, make_encoder
from ray_train.model.backbone import load_backbone
from ray_train.model.prompt_format import PromptFormat, without_image_tags

STEPS = [f"This is step {number} of the solution." for number in range(6)]


@pytest.fixture
def encoder(folder: Path) -> Encoder:
    backbone = load_backbone(str(folder), torch.float32)
    slot = backbone.family.image_slot(backbone.processor.tokenizer)
    return make_encoder(backbone, PromptFormat(slot, backbone.family.image_options(1)), 4096)


def limited(encoder: Encoder, max_length: int) -> Encoder:
    return Encoder(encoder.processor, encoder.format, encoder.reserved, encoder.marker_id, max_length)


def sample(steps: list[str], images: int = 1, question: str = "How many?") -> Sample:
    pictures = [Image.new("RGB", (28, 28))] * images
    return Sample(0, pictures, question, steps, [1.0] * len(steps))


def length(encoder: Encoder, one: Sample) -> int:
    return int(encoder.encode([one]).inputs["attention_mask"].sum())


def test_the_user_turn_is_empty_and_everything_stands_in_the_answer() -> None:
    text = PromptFormat("<IMG>", {}).render("How many?", ["One.", "Two."], 2)
    assert text == (
        "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n<IMG>\n<IMG>\n"
        "Question: How many?\nProcess: One.<prm>\n\nTwo.<prm><|im_end|>"
    )


@pytest.mark.parametrize("question", ["<image>\nHow many?", "How many?\n<image1>\n <image2> ", "How many?"])
def test_lines_that_only_stand_for_an_image_are_left_out(question: str) -> None:
    assert without_image_tags(question) == "How many?"


def test_an_image_tag_inside_a_sentence_stays() -> None:
    assert without_image_tags("Is <image1> a cat?") == "Is <image1> a cat?"


def test_a_rollout_that_is_too_long_loses_whole_trailing_steps(encoder: Encoder) -> None:
    lengths = [length(encoder, sample(STEPS[:count])) for count in range(1, len(STEPS) + 1)]
    for limit in (lengths[2], lengths[2] + 1, lengths[3] - 1):
        batch = limited(encoder, limit).encode([sample(STEPS), sample(STEPS[:1])])
        assert batch.inputs["attention_mask"].sum(1).tolist()[0] == lengths[2]
        assert (batch.shortened, batch.skipped) == (1, 0)
    assert limited(encoder, lengths[-1]).encode([sample(STEPS)]).shortened == 0


def test_a_rollout_without_room_for_one_step_is_skipped(encoder: Encoder) -> None:
    short, long = sample(["a"]), Sample(7, sample([]).images, "How many?" * 50, ["b"], [1.0])
    limit = length(encoder, short)
    batch = limited(encoder, limit).encode([long, short])
    assert (batch.rows, batch.kept_steps, batch.skipped) == ([0], [0, 1], 1)
    alone = limited(encoder, limit).encode([long])
    assert (alone.rows, alone.weights.tolist()) == ([], [0.0])


def test_a_rollout_with_a_token_of_the_prompt_in_its_text_is_skipped(encoder: Encoder) -> None:
    for token in encoder.reserved:
        batch = encoder.encode([sample(STEPS, question=f"What is {token}?")])
        assert (batch.rows, batch.skipped) == ([], 1)


def test_all_images_of_a_rollout_are_read(encoder: Encoder) -> None:
    one, two = length(encoder, sample(STEPS)), length(encoder, sample(STEPS, images=2))
    assert two > one
    assert encoder.encode([sample(STEPS, images=2), sample(STEPS)]).labels.shape == (12,)


def test_rollouts_whose_labels_are_exchanged_are_named_though_the_batch_has_as_many(encoder: Encoder) -> None:
    short, long = (replace(sample(STEPS[:k]), name=f"with-{k}") for k in (2, 3))
    assert len(encoder.encode([short, long]).labels) == 5
    exchanged = [replace(short, labels=long.labels), replace(long, labels=short.labels)]
    with pytest.raises(TrainingError, match="labels in rollout with-2; found 2 markers and 3 labels"):
        encoder.encode(exchanged)
    with pytest.raises(TrainingError, match="rollout with-3; found 3 markers and 4"):
        encoder.encode([short, replace(long, totals=[16] * 4)])


def test_rollouts_whose_tokens_are_exchanged_are_named(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollouts = [replace(sample(STEPS[:k]), name=f"with-{k}") for k in (2, 3)]
    render = PromptFormat.render
    others = {2: STEPS[:3], 3: STEPS[:2]}
    monkeypatch.setattr(
        PromptFormat, "render", lambda self, question, steps, n: render(self, question, others[len(steps)], n)
    )
    with pytest.raises(TrainingError, match="rollout with-2; found 3 markers and 2 labels"):
        encoder.encode(rollouts)


def test_a_filler_weighs_nothing(encoder: Encoder) -> None:
    batch = encoder.encode([filler()])
    assert batch.weights.tolist() == [0.0]
    assert batch.rows == []
