"""The files by which vLLM and transformers use a published model say what its card and config say."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2.exceptions import TemplateError
from PIL import Image
from support.published import card_for, publish

from bisieve.cli.main import run_command
from bisieve.errors import TrainingError
from ray_train.data.encode import Encoder, Sample, make_encoder
from ray_train.model.backbone import Backbone
from ray_train.model.families import known_families
from ray_train.model.model_card import README
from ray_train.model.prompt_format import PromptFormat, format_of, reserved_tokens
from ray_train.model.save import model_texts
from ray_train.model.serving_files import (
    IMAGES,
    PROCESSOR,
    TEMPLATE,
    VLLM,
    add_serving_files,
    chat_messages,
    chat_template,
    serving_files,
    user_parts,
    why_not_served,
)
from ray_train.model.skeleton import load_skeleton

SERVING = (VLLM, TEMPLATE, PROCESSOR)
NOT_SERVED = {"Qwen3.5", "Gemma3"}


@pytest.fixture(scope="module")
def backbone(hub_checkpoint: Path) -> Backbone:
    return load_skeleton(str(hub_checkpoint), [])


def options_of(text: str) -> dict[str, Any]:
    """Return the options of vllm.yaml, those that are JSON decoded."""
    options = yaml.safe_load(text)
    return {
        name: json.loads(value) if str(value).startswith("{") else value for name, value in options.items()
    }


def test_the_options_of_vllm_are_those_of_card_and_config(backbone: Backbone, hub_checkpoint: Path) -> None:
    card = card_for(backbone)
    files = serving_files(backbone, card)
    if hub_checkpoint.name in NOT_SERVED:
        assert VLLM not in files
        page = " ".join(model_texts(backbone, card, "model")[README].split())
        why = f"models of type {backbone.family.model_type} were not tried with vLLM"
        assert f"no `vllm.yaml`, so vLLM does not serve it: {why}." in page
        assert "vllm serve" not in page
        return
    options, config = options_of(files[VLLM]), backbone.model.config
    assert options["runner"] == "pooling"
    assert options["dtype"] == "float32"
    assert options["max-model-len"] == min(8192, config.get_text_config().max_position_embeddings) == 4096
    assert options["pooler-config"] == {
        "task": "token_classify", "tok_pooling_type": "STEP", "step_tag_id": card["token_ids"]["<prm>"],
    }  # fmt: skip
    images = options["mm-processor-kwargs"]
    assert images.pop("use_fast") is False
    assert images == card["prompt_format"]["image_options"]
    overrides = options["hf-overrides"]
    (written,) = {type(backbone.model).__name__}
    assert overrides["architectures"] == [
        written.replace("ForConditionalGeneration", "ForSequenceClassification")
    ]
    assert overrides["method"] == "from_2_way_softmax"
    tied = {"InternVL2.5-MPO": False, "InternVL3": False, "InternVL3.5": False, "Qwen2.5-VL": False}
    assert overrides["text_config"]["tie_word_embeddings"] is tied.get(hub_checkpoint.name, True)
    rope = overrides["text_config"].get("rope_parameters", {})
    assert rope.get("mrope_interleaved", False) is (hub_checkpoint.name == "Qwen3-VL")
    assert not rope or rope.items() >= config.get_text_config().rope_parameters.items()


def test_vllm_finds_the_same_tokens_for_yes_and_no(backbone: Backbone, hub_checkpoint: Path) -> None:
    """vLLM looks them up in the vocabulary; a tokenizer may encode them otherwise."""
    card = card_for(backbone)
    files = serving_files(backbone, card)
    if VLLM in files:
        no, yes = options_of(files[VLLM])["hf-overrides"]["classifier_from_token"]
        find = backbone.processor.tokenizer.convert_tokens_to_ids
        assert [find(yes), find(no)] == [card["token_ids"]["Yes"], card["token_ids"]["No"]]


def test_a_word_that_vllm_would_look_up_otherwise_is_not_served(internvl: Path) -> None:
    backbone = load_skeleton(str(internvl), [])
    format = card_for(backbone)["prompt_format"] | {"positive": " Yes"}
    format = card_for(backbone, prompt_format=format)["prompt_format"]
    assert backbone.processor.tokenizer.encode(" Yes") == [backbone.token_id(" Yes")]
    files = serving_files(backbone, card_for(backbone, prompt_format=format))
    assert VLLM not in files


def test_families_that_were_tried_with_vllm_are_three() -> None:
    served = {name for name, family in known_families().items() if family.served_as}
    assert served == {"internvl", "qwen2_5_vl", "qwen3_vl"}


def test_the_pixels_of_torchvision_are_asked_for_where_the_model_learned_from_them(internvl: Path) -> None:
    backbone = load_skeleton(str(internvl), [])
    format = card_for(backbone)["prompt_format"] | {"image_backend": "torchvision"}
    text = serving_files(backbone, card_for(backbone, prompt_format=format))[VLLM]
    assert options_of(text)["mm-processor-kwargs"]["use_fast"] is True


def test_a_model_with_a_kappa_head_says_that_it_is_not_served(internvl: Path) -> None:
    backbone = load_skeleton(str(internvl), [])
    assert "κ head" in serving_files(backbone, card_for(backbone, kappa="kappa.safetensors"))[VLLM]


@pytest.fixture
def older(internvl: Path, tmp_path: Path) -> Path:
    """A model as it was published before there were such files."""
    publish(internvl, tmp_path / "older", with_texts=False)
    return tmp_path / "older"


def test_an_older_folder_gets_the_files_that_a_new_one_has(
    older: Path, internvl: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file.name: file.read_bytes() for file in older.iterdir()}
    publish(internvl, tmp_path / "new")
    assert run_command("ray_train.cli.serving_files", ["--model", str(older)]) == 0
    assert capsys.readouterr().out == (
        f"written to {older}: chat_template.jinja, processor_config.json, vllm.yaml\n"
    )
    for name in SERVING:
        assert (older / name).read_text() == (tmp_path / "new" / name).read_text(), name
    assert {file.name for file in older.iterdir()} - before.keys() == set(SERVING)
    assert all((older / name).read_bytes() == content for name, content in before.items())


def test_options_that_the_owner_has_edited_stay_and_the_command_says_so(
    older: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", str(older)]
    run_command("ray_train.cli.serving_files", arguments)
    whole = (older / VLLM).read_text()
    (older / VLLM).write_text(whole.replace('"image": 8', '"image": 16'))
    (older / TEMPLATE).write_text("the template of the backbone")
    capsys.readouterr()
    assert run_command("ray_train.cli.serving_files", arguments) == 0
    assert '"image": 16' in (older / VLLM).read_text()
    assert "the backbone" not in (older / TEMPLATE).read_text()
    assert capsys.readouterr().out == (
        f"written to {older}: chat_template.jinja, processor_config.json\n"
        "vllm.yaml has other options and stays: for a new one move it away, then run this again\n"
    )
    (older / VLLM).unlink()
    assert run_command("ray_train.cli.serving_files", arguments) == 0
    assert (older / VLLM).read_text() == whole


def test_a_model_that_bisieve_did_not_train_gets_none(internvl: Path) -> None:
    with pytest.raises(TrainingError, match=r"expected a model that bisieve trained, with bisieve\.json"):
        add_serving_files(str(internvl))
    assert not (internvl / VLLM).exists()


def test_a_family_that_was_not_tried_with_vllm_gets_the_other_files_and_says_so(
    backbone: Backbone, hub_checkpoint: Path
) -> None:
    from ray_train.model.prompt_format import format_in

    why = why_not_served(backbone, format_in(card_for(backbone), "here"))
    assert bool(why) is (hub_checkpoint.name in NOT_SERVED)
    assert set(serving_files(backbone, card_for(backbone))) >= {"chat_template.jinja", PROCESSOR}


def test_the_processor_files_name_class_and_image_options_of_training(internvl: Path, tmp_path: Path) -> None:
    card = publish(internvl, tmp_path / "model")
    processor = json.loads((tmp_path / "model" / PROCESSOR).read_text())
    assert processor == {"processor_class": "InternVLProcessor", "image_seq_length": 4}
    images = json.loads((tmp_path / "model" / IMAGES).read_text())
    assert images.items() >= card["prompt_format"]["image_options"].items()
    assert images["image_processor_type"] == "GotOcr2ImageProcessor"


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
    in_order = [part for part in parts if isinstance(part, int)]
    assert in_order == encoder.format.image_order(question, images)
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
