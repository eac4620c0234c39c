"""What the processors of the families are told, and what they make of it."""

import warnings

import pytest
import torch
from PIL import Image

from ray_train.data.encode import Sample, make_encoder
from ray_train.estimates.sample import CountingProcessor
from ray_train.model.backbone import load_backbone
from ray_train.model.prompt_format import PromptFormat

TOKENS = {"qwen": 256, "qwen3": 256, "internvl": 4}  # of a tile; the InternVL of the tests has small ones


@pytest.mark.parametrize("family", TOKENS)
@pytest.mark.parametrize("tiles", [1, 4])
def test_an_image_has_the_tokens_of_as_many_tiles_as_it_may_have_and_no_more(
    tiles: int, family: str, request: pytest.FixtureRequest
) -> None:
    backbone = load_backbone(str(request.getfixturevalue(family)), torch.float32)
    slot_id = backbone.token_id(backbone.family.image_token(backbone.processor.tokenizer))
    text = backbone.family.image_slot(backbone.processor.tokenizer)
    options = backbone.family.image_options(tiles)
    images = [[Image.new("RGB", (1600, 1600))]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # transformers tells so what it is about to take away
        ids = backbone.processor(images=images, text=[text], return_tensors="pt", **options)["input_ids"]
        counted = CountingProcessor(backbone.processor, slot_id)(images, [text], **options)["input_ids"]
    found = int((ids == slot_id).sum())
    most = TOKENS[family] * tiles
    thumbnail = TOKENS[family] * (family == "internvl" and tiles > 1)
    assert 0.9 * most <= found - thumbnail <= most
    assert counted.shape == ids.shape


@pytest.mark.parametrize("family", ["qwen", "qwen3"])
def test_an_image_smaller_than_a_token_has_one(family: str, request: pytest.FixtureRequest) -> None:
    backbone = load_backbone(str(request.getfixturevalue(family)), torch.float32)
    slot = backbone.family.image_slot(backbone.processor.tokenizer)
    format = PromptFormat(slot, backbone.family.image_options(backbone.family.tiles))
    sample = Sample(0, [Image.new("RGB", (10, 10))], "What?", ["So."], [1.0])
    ids = make_encoder(backbone, format, 4096).encode([sample]).inputs["input_ids"]
    token = backbone.token_id(backbone.family.image_token(backbone.processor.tokenizer))
    assert int((ids == token).sum()) == 1
