"""The base backbone: an ordinary Hugging Face folder that reads digits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bisieve.records.prompt import MARKER
from bisieve.synthetic.pictures import held_out_digits

ROOT = Path(__file__).parents[2]
BACKBONE = ROOT / "tests" / "fixtures" / "backbone"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(BACKBONE)


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(BACKBONE).eval()


def test_the_folder_is_small() -> None:
    assert sum(path.stat().st_size for path in BACKBONE.iterdir()) < 4_000_000


def test_the_model_is_a_tiny_internvl_in_full_precision(model: Any) -> None:
    import torch

    assert type(model).__name__ == "InternVLForConditionalGeneration"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert sum(parameter.numel() for parameter in model.parameters()) < 10**6


def test_the_verdicts_are_one_token_each_and_the_marker_is_not_yet_known(tokenizer: Any) -> None:
    assert [len(tokenizer(word)["input_ids"]) for word in ("Yes", "No")] == [1, 1]
    assert len(tokenizer(MARKER)["input_ids"]) > 1


def test_every_text_survives_the_tokenizer(tokenizer: Any) -> None:
    for text in ("The top left digit is 12 and 3 + 9 = 12.\n\nFinal answer: 12", "naïve\u2028 – 数字"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_picture_stands_for_as_many_tokens_as_the_model_makes_of_it(tokenizer: Any, model: Any) -> None:
    import torch
    from transformers import GotOcr2ImageProcessorPil

    picture = np.zeros((56, 56, 3), np.uint8)
    processor = GotOcr2ImageProcessorPil.from_pretrained(BACKBONE)
    pixels = processor(picture, return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 56, 56)
    assert torch.equal(pixels, torch.full_like(pixels, -1.0))
    text = "<img>" + "<IMG_CONTEXT>" * model.config.image_seq_length + "</img>"
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    assert (ids == model.config.image_token_id).sum() == model.config.image_seq_length == 16
    assert model(input_ids=ids, pixel_values=pixels).logits.isfinite().all()


def test_it_reads_digits_it_has_never_seen_and_judges_statements_about_them(
    tokenizer: Any, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "infra" / "demo")
    from make_backbone import Teacher

    marks = Teacher(model, tokenizer, held_out_digits(), np.random.default_rng(0)).exam()
    assert marks["read"] > 0.85  # of the image tokens; chance is 0.1
    assert marks["verdict AUC"] > 0.9  # chance is 0.5
