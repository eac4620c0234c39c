"""The text and the image that the paper's own evaluation puts to a model."""

import json

import pytest
from PIL import Image

from ray_train.evaluation.protocol import one_image, paper_eval_format
from ray_train.model.prompt_format import PromptFormat, chat_head

SYSTEM = "<|im_start|>system\nBe strict.<|im_end|>\n"
FORMAT = paper_eval_format(PromptFormat("<IMG>", {}, head=chat_head("Be strict.", ""), in_place=True))


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("How many?", "<IMG>\nQuestion: How many?"),
        ("<image1><image12> How many? ", "<IMG>\nQuestion: How many?"),
        ("Is <image> red?", "Question: Is <IMG> red?"),
        ("Is <image> <image>?", "Question: Is <IMG> <image>?"),
        ("Is <image 1> red?", "<IMG>\nQuestion: Is <image 1> red?"),
    ],
)
def test_steps_are_joined_by_markers_alone_and_the_user_turn_stays_open(question: str, text: str) -> None:
    turns = f"{SYSTEM}<|im_start|>user\n<|im_start|>assistant\n"
    expected = f"{turns}{text}\nProcess: One.<prm>Two.<prm><|im_end|>"
    assert FORMAT.render(question, ["One.", "Two."], 1) == expected
    assert FORMAT.image_order(question, 1) == [0]
    assert not FORMAT.is_unclear(question, 1)


def test_what_a_card_says_of_images_and_tokens_stays() -> None:
    card = PromptFormat(
        "<IMG>", {"max_patches": 6}, "torchvision", several_image_options=[{"max_patches": 3}]
    )
    format = paper_eval_format(PromptFormat(**json.loads(json.dumps(card.to_json()))))
    assert (format.image_backend, format.marker, format.positive) == ("torchvision", "<prm>", "Yes")
    assert format.options_for(1) == {"max_patches": 6}, "the one image has the whole budget"


@pytest.mark.parametrize(("number", "size"), [(2, (20, 30)), (3, (30, 30)), (4, (30, 60)), (7, (30, 90))])
def test_images_are_in_the_middle_of_the_cells_of_a_white_grid(number: int, size: tuple[int, int]) -> None:
    images = [Image.new("RGB", (4, 30) if place else (10, 8), "red") for place in range(number)]
    grid = one_image(images)
    assert grid.size == size
    red = sum(image.width * image.height for image in images)
    assert sorted(grid.getcolors() or []) == sorted(
        [(red, (255, 0, 0)), (size[0] * size[1] - red, (255,) * 3)]
    )
    assert grid.crop((0, 11, 10, 19)).getcolors() == [(80, (255, 0, 0))]
    assert grid.crop((13, 0, 17, 30)).getcolors() == [(120, (255, 0, 0))]


def test_an_image_that_is_alone_stays_as_it_is() -> None:
    image = Image.new("RGB", (3, 5))
    assert one_image([image]) is image
