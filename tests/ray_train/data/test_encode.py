"""Rollouts as tensors: the prompt, and what happens to a rollout that is too long."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from bisieve.errors import TrainingError
from ray_train.data.encode import Encoder, Sample, filler, make_encoder
from ray_train.model.backbone import load_backbone, make_processor
from ray_train.model.prompt_format import PromptFormat, shared_options, without_image_tags

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


def test_the_user_turn_is_empty_and_everything_is_in_the_answer() -> None:
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


IN_PLACE = PromptFormat("<IMG>", {}, in_place=True)


@pytest.mark.parametrize(
    ("question", "images", "text", "order"),
    [
        ("<image>How many?", 1, "Question: <IMG>How many?", [0]),
        ("How many?\n<image>", 1, "Question: How many?\n<IMG>", [0]),
        ("Is <image 1> as <image1>?", 2, "<IMG>\n<IMG>\nQuestion: Is <image 1> as <image1>?", [0, 1]),
        ("Image-1: <image>\nImage-2: <image>\nSame?", 2,
         "Question: Image-1: <IMG>\nImage-2: <IMG>\nSame?", [0, 1]),
        ("Is <image2> as <image 1>?", 2, "Question: Is <IMG> as <IMG>?", [1, 0]),
        ("How many?", 2, "<IMG>\n<IMG>\nQuestion: How many?", [0, 1]),
        ("<image>\nHow many?", 2, "<IMG>\n<IMG>\nQuestion: How many?", [0, 1]),
        ("<image 3> and <image 1>", 2, "<IMG>\n<IMG>\nQuestion: <image 3> and <image 1>", [0, 1]),
        ("<image> and <image1>", 2, "<IMG>\n<IMG>\nQuestion: <image> and <image1>", [0, 1]),
        ("What is <image>?", 0, "Question: What is <image>?", []),
    ],
)  # fmt: skip
def test_images_are_where_the_question_has_their_placeholders(
    question: str, images: int, text: str, order: list[int]
) -> None:
    rendered = IN_PLACE.render(question, ["One."], images)
    assert rendered == f"{IN_PLACE.head}{text}\nProcess: One.<prm>{IN_PLACE.tail}"
    assert IN_PLACE.image_order(question, images) == order
    unclear = ("<image" in question and "<image" in rendered) or question == "<image>\nHow many?"
    assert IN_PLACE.is_unclear(question, images) == unclear


def test_a_model_of_an_older_version_reads_images_in_front_with_the_whole_budget() -> None:
    old = PromptFormat(image_slot="<IMG>", image_options={"max_patches": 6})
    assert old.render("<image>How many?", ["One."], 1).startswith(f"{old.head}<IMG>\nQuestion: <image>How")
    assert old.options_for(5) == {"max_patches": 6}


def test_several_images_share_the_tiles() -> None:
    several = shared_options(lambda tiles: {"max_patches": tiles}, 6)
    format = PromptFormat("<IMG>", {"max_patches": 6}, several_image_options=several)
    assert [format.options_for(n)["max_patches"] for n in (0, 1, 2, 3, 4, 5, 6, 9)] == [
        6,
        6,
        3,
        2,
        1,
        1,
        1,
        1,
    ]
    assert PromptFormat(**json.loads(json.dumps(format.to_json()))).options_for(2) == {"max_patches": 3}


@pytest.mark.parametrize(("images", "tokens"), [(1, 1792), (2, 512), (5, 1280)])
def test_images_of_1000_by_750_have_the_tokens_of_the_papers_tiles(
    internvl: Path, images: int, tokens: int
) -> None:
    backbone = load_backbone(str(internvl), torch.float32)
    family, tokenizer = backbone.family, backbone.processor.tokenizer
    pictures = GotOcr2ImageProcessorPil(size={"height": 448, "width": 448})
    processor = make_processor(family.processor, pictures, tokenizer, {"image_seq_length": 256})
    slot, options = family.image_slot(tokenizer), family.image_options
    format = PromptFormat(slot, options(6), several_image_options=shared_options(options, 6), in_place=True)
    encoder = make_encoder(replace(backbone, processor=processor), format, 8192)
    picture = Image.new("RGB", (1000, 750))
    batch = encoder.encode([Sample(0, [picture] * images, "Same?", ["Yes."], [1.0])])
    slot_id = tokenizer.convert_tokens_to_ids(slot)
    assert int((batch.inputs["input_ids"] == slot_id).sum()) == tokens
    assert len(batch.inputs["pixel_values"]) == tokens // 256


def test_a_batch_of_rollouts_with_other_numbers_of_images_is_each_alone(folder: Path) -> None:
    backbone = load_backbone(str(folder), torch.float32)
    slot, options = backbone.family.image_slot(backbone.processor.tokenizer), backbone.family.image_options
    format = PromptFormat(slot, options(4), several_image_options=shared_options(options, 4), in_place=True)
    encoder = make_encoder(backbone, format, 4096)
    picture = Image.linear_gradient("L").convert("RGB").resize((90, 40))
    samples = [Sample(n, [picture] * n, "Same?" * (n + 1), ["Yes."], [1.0]) for n in (0, 1, 2, 0, 5, 1)]
    inputs = encoder.encode(samples).inputs
    alone = [encoder.encode([each]).inputs for each in samples if each.images]
    pixels = torch.cat([each["pixel_values"] for each in alone])
    torch.testing.assert_close(inputs["pixel_values"], pixels, rtol=0, atol=0)
    masks = inputs["attention_mask"].bool()
    rows = [ids[mask].tolist() for ids, mask in zip(inputs["input_ids"], masks, strict=True)]
    assert [rows[k] for k in (1, 2, 4, 5)] == [each["input_ids"][0].tolist() for each in alone]


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
