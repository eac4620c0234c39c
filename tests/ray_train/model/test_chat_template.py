"""The chat template gives the tokens of training, and refuses what would give others."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jinja2.exceptions import TemplateError
from PIL import Image

from ray_train.data.encode import Encoder, Sample, make_encoder
from ray_train.model.backbone import Backbone
from ray_train.model.chat_template import chat_messages, chat_template, images_in, user_parts
from ray_train.model.prompt_format import PromptFormat, format_of, reserved_tokens
from ray_train.model.skeleton import load_skeleton

QUESTIONS = [
    ("How many bars?", 1),
    ("How many bars?", 0),
    ("<image>\nHow many bars?", 1),
    ("In <image>, and in <image>?", 2),
    ("Is <image2> higher than <Image 1>", 2),
    ("Which of the three?", 3),
    ("<image1>\nWhat is this: <image_1>, <image of a bar>, <image>?", 2),  # read as text, but for one line
    ("What is <image>?", 0),
]
STEPS = ["There are 3.", 'Sehr gut: <image> 你好 😀 "quoted" \\ \t{{ x }}', "So 3 < 4.\n\nYes"]

Reader = tuple[Encoder, str, Any]


@pytest.fixture(scope="module")
def read(hub_checkpoint: Path) -> Reader:
    """The encoder, chat template and tokenizer of a checkpoint of each family, with its own system turn."""
    backbone = load_skeleton(str(hub_checkpoint), [])
    tokenizer = backbone.processor.tokenizer
    format = format_of(backbone.family, tokenizer, 0, "family")
    encoder = make_encoder(backbone, format, 8192)
    return encoder, chat_template(format, backbone.family, tokenizer), tokenizer


def rendered(reader: Reader, messages: Any) -> list[int]:
    """Return the tokens as vLLM and transformers make them, before the slots of images are filled."""
    _, template, tokenizer = reader
    text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize(("question", "images"), QUESTIONS)
def test_the_tokens_are_those_of_training(read: Reader, question: str, images: int) -> None:
    encoder, _, tokenizer = read
    sample = Sample(0, [Image.new("RGB", (28, 28))] * images, question, STEPS, [1.0] * 3)
    expected = tokenizer(encoder.text(sample))["input_ids"]
    parts = user_parts(encoder.format, question, images)
    assert list(images_in(parts)) == encoder.format.image_order(question, images)
    assert rendered(read, chat_messages(parts, STEPS, [{"type": "image"}] * images)) == expected


@pytest.mark.parametrize("images", [1, 2])
def test_the_processor_fills_the_slots_as_in_training(read: Reader, images: int) -> None:
    encoder, template, tokenizer = read
    picture = Image.linear_gradient("L").convert("RGB")
    sample = Sample(0, [picture] * images, "Which bar?", STEPS, [1.0] * 3)
    expected = encoder.encode([sample]).inputs
    messages = chat_messages(user_parts(encoder.format, "Which bar?", images), STEPS, [{"type": "image"}] * 2)
    text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
    found = encoder.processor(
        text=[text], images=[[picture] * images], add_special_tokens=False, return_tensors="pt",
        **encoder.format.options_for(images),
    )  # fmt: skip
    assert found["input_ids"].tolist() == expected["input_ids"].tolist()
    assert (found["pixel_values"] == expected["pixel_values"]).all()


@pytest.fixture(scope="module")
def small(internvl: Path) -> Reader:
    backbone = load_skeleton(str(internvl), [])
    format = format_of(backbone.family, backbone.processor.tokenizer, 0, "none")
    return reader_of(backbone, format)


def reader_of(backbone: Backbone, format: PromptFormat) -> Reader:
    tokenizer = backbone.processor.tokenizer
    return make_encoder(backbone, format, 8192), chat_template(format, backbone.family, tokenizer), tokenizer


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


IMAGE = {"type": "image"}


def asked(user: Any, assistant: Any) -> list[Any]:
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        (asked([IMAGE, text("How many?")], "There are 3."), "found a string"),
        (asked("How many?", [text("There are 3.")]), "found a string"),
        ([{"role": "system", "content": "x"}, *asked([text("Q")], [text("s")])], "no system message"),
        (asked([text("Q")], [text("s")])[:1], "then an assistant message"),
        (asked([IMAGE, text("How many?")], []), "at least one step"),
        (asked([IMAGE, text("How many?")], [text("A <prm> here")]), "found <prm>"),
        (asked([IMAGE, text("a<|im_"), text("end|>")], [text("s")]), r"found <\|im_end\|>"),
        (asked([IMAGE, text("<IMG_CONTEXT>?")], [text("s")]), "found <IMG_CONTEXT>"),
        (asked([IMAGE, text("<image>\nHow many?")], [text("s")]), "found the text <image>"),
        (asked([IMAGE, text("Is <Image-12> so?")], [text("s")]), "found the text <image-12>"),
        (asked([text("Q")], [text("s"), IMAGE]), "found image"),
        (asked([{"type": "video"}, text("Q")], [text("s")]), "found video"),
    ],
)  # fmt: skip
def test_what_would_become_another_text_is_refused(small: Reader, messages: Any, found: str) -> None:
    with pytest.raises(TemplateError, match=found):
        rendered(small, messages)


def test_every_reserved_token_is_refused(hub_checkpoint: Path) -> None:
    backbone = load_skeleton(str(hub_checkpoint), [])
    tokenizer = backbone.processor.tokenizer
    format = format_of(backbone.family, tokenizer, 0, "none")
    reader = reader_of(backbone, format)
    for token in reserved_tokens(format, backbone.family, tokenizer):
        for messages in (asked([text(token)], [text("s")]), asked([text("Q")], [text(f"a{token}b")])):
            with pytest.raises(TemplateError, match="expected no token of the prompt"):
                rendered(reader, messages)


def test_text_that_only_looks_like_a_placeholder_is_accepted(small: Reader) -> None:
    words = ["<image", "<image of 3>", "<images>", "<image->", "< image>", "image 1>"]
    for question in words:
        parts = user_parts(small[0].format, question, 1)
        assert parts == [0, question]
        assert rendered(small, chat_messages(parts, ["s"], [IMAGE]))


def test_a_model_of_before_placeholders_were_places_has_all_images_in_front(
    internvl: Path, small: Reader
) -> None:
    backbone = load_skeleton(str(internvl), [])
    old = replace(small[0].format, in_place=False, several_image_options=[])
    _, _, tokenizer = reader = reader_of(backbone, old)
    question = "<image1>\nIs <image1> so?"
    expected = tokenizer(old.render(question, ["s"], 1))["input_ids"]
    assert rendered(reader, chat_messages(user_parts(old, question, 1), ["s"], [IMAGE])) == expected
    with pytest.raises(TemplateError, match="all images before the text"):
        rendered(reader, asked([text("Is "), IMAGE], [text("s")]))
