"""What lies beside a model, or in it, and cannot be read is named in one line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from bisieve.errors import TrainingError
from ray_train.evaluation.scorer import Scorer
from ray_train.model.backbone import load_backbone
from ray_train.model.metadata import read_card

CARD: dict[str, Any] = {
    "run": "r", "identity": {"index": "i"}, "config": {"max_length": 2048},
    "prompt_format": {"image_slot": "<IMG_CONTEXT>", "image_options": {}},
}  # fmt: skip


@pytest.fixture
def model(internvl: Path, tmp_path: Path) -> Path:
    return shutil.copytree(internvl, tmp_path / "model")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (json.dumps(CARD)[:50], "a file that is truncated or not JSON"),
        ("", "a file that is truncated or not JSON"),
        ("[]", "Expected `object`, got `array`"),
        (json.dumps(CARD | {"identity": {}}), r"missing required field `index` - at `\$\.identity`"),
        (json.dumps(CARD | {"config": 5}), r"Expected `object`, got `int` - at `\$\.config`"),
        (
            json.dumps(CARD | {"config": {"max_length": "8k"}}),
            r"Expected `int`, got `str` - at .*max_length`",
        ),
    ],
)
def test_a_card_that_is_none_is_named(content: str, found: str, model: Path) -> None:
    (model / "bisieve.json").write_text(content)
    with pytest.raises(TrainingError, match=rf"bisieve\.json; found .*{found}; check --model"):
        read_card(str(model))


def test_a_mistyped_key_of_the_prompt_format_is_named(model: Path) -> None:
    prompt_format = {**CARD["prompt_format"], "hed": ""}
    (model / "bisieve.json").write_text(json.dumps(CARD | {"prompt_format": prompt_format}))
    with pytest.raises(TrainingError, match=r"bisieve\.json of .*'hed'; check --model"):
        Scorer(str(model), max_length=0, max_tiles=1)


@pytest.mark.parametrize("kept", [0, 5, 4000])
def test_damaged_weights_are_named(kept: int, model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(TrainingError, match=r"model\.safetensors that is damaged: .*; check --backbone") as e:
        load_backbone(str(model), torch.float32)
    assert "again" not in str(e.value)


def test_a_name_that_is_no_folder_is_said_to_be_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    def nothing(name: str) -> None:
        raise OSError(f"{name} is not a valid model identifier")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", nothing)
    with pytest.raises(TrainingError, match="no such folder here, and looked up as a hub id"):
        load_backbone("Mistyped", torch.float32)
