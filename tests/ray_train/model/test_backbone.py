"""What a backbone may be made of, who makes its images, and what a family is."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.hub_checkpoints import CHECKPOINTS
from support.hubs import MODEL_TYPES

from bisieve.errors import TrainingError
from ray_train.evaluation.scorer import Scorer
from ray_train.model import families
from ray_train.model.backbone import load_backbone
from ray_train.model.families import family_of, known_families
from ray_train.model.skeleton import load_skeleton


def test_every_family_is_tested_with_a_checkpoint_of_its_own() -> None:
    assert MODEL_TYPES.keys() == CHECKPOINTS.keys()
    assert known_families().keys() == set(MODEL_TYPES.values())


def test_another_family_is_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fourth_vl.py").write_text(
        "from dataclasses import replace\n"
        "from ray_train.model.families import qwen3_vl\n"
        "FAMILY = replace(qwen3_vl.FAMILY, model_type='fourth_vl')\n"
    )
    with pytest.raises(TrainingError, match=r"gemma3 or internvl or qwen2_5_vl or .*; found fourth_vl"):
        family_of("fourth_vl")
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    assert family_of("fourth_vl").processor == "Qwen3VLProcessor"
    sys.modules.pop("ray_train.model.families.fourth_vl")


@pytest.mark.parametrize(("label", "found"), [("Perhaps", "[2-9] tokens"), ("", "0 tokens")])
def test_a_label_that_is_no_single_token_is_named_with_its_pieces(
    label: str, found: str, internvl: Path
) -> None:
    skeleton = load_skeleton(str(internvl), [])
    expected = (
        rf"expected a tokenizer in which '{label}' is one token; found no such token, and as text {found}"
    )
    with pytest.raises(TrainingError, match=rf"{expected} \(.*\); choose another backbone") as caught:
        skeleton.token_id(label)
    assert "\n" not in str(caught.value)


@pytest.fixture
def no_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)  # Python's own way to say that there is none


def test_torchvision_that_is_asked_for_and_is_not_there_is_named(
    no_torchvision: None, internvl: Path
) -> None:
    with pytest.raises(TrainingError, match=r"install the one for torch 2.* --image-backend pil") as caught:
        load_backbone(str(internvl), torch.float32, "torchvision")
    assert "\n" not in str(caught.value)


def test_an_evaluation_takes_the_library_that_the_model_was_trained_with_or_none(
    no_torchvision: None, internvl: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(internvl, tmp_path / "model")
    card: dict[str, Any] = {
        "run": "r", "identity": {"index": "i"}, "config": {"max_length": 2048},
        "prompt_format": {"image_slot": "<IMG_CONTEXT>", "image_options": {}, "image_backend": "torchvision"},
    }  # fmt: skip
    (model / "bisieve.json").write_text(json.dumps(card))
    with pytest.raises(TrainingError, match="expected torchvision"):
        Scorer(str(model), max_length=0, max_tiles=1, image_backend="pil")
    card["prompt_format"]["image_backend"] = "pil"
    (model / "bisieve.json").write_text(json.dumps(card))
    Scorer(str(model), max_length=0, max_tiles=1, image_backend="torchvision")


def test_images_that_only_torchvision_makes_are_not_made_otherwise(internvl: Path, tmp_path: Path) -> None:
    model = shutil.copytree(internvl, tmp_path / "model")
    settings = json.loads((model / "preprocessor_config.json").read_text())
    settings["image_processor_type"] = "Llama4ImageProcessor"  # one that transformers has no PIL version of
    (model / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(TrainingError, match="found one with torchvision only; use --image-backend torch"):
        load_backbone(str(model), torch.float32)


def test_pickled_weights_are_named_and_not_opened(internvl: Path, tmp_path: Path) -> None:
    model = shutil.copytree(internvl, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save(load_file(internvl / "model.safetensors"), model / "pytorch_model.bin")
    with pytest.raises(TrainingError, match=r"no weights as \.safetensors, and pickled ones") as caught:
        load_backbone(str(model), torch.float32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model_type", ["internvl", "their_own"])
def test_code_that_lies_beside_a_model_is_never_run(
    model_type: str, internvl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda prompt: "y")  # transformers asks at a terminal
    model = shutil.copytree(internvl, tmp_path / "model")
    code = f"from pathlib import Path\nPath({str(tmp_path / 'run')!r}).touch()\n"
    (model / "theirs.py").write_text(code)
    config = json.loads((model / "config.json").read_text()) | {"model_type": model_type}
    config["auto_map"] = {"AutoConfig": "theirs.C", "AutoModelForImageTextToText": "theirs.M"}
    (model / "config.json").write_text(json.dumps(config))
    for name, auto in (("tokenizer_config", "AutoTokenizer"), ("preprocessor_config", "AutoImageProcessor")):
        settings = json.loads((model / f"{name}.json").read_text())
        settings["auto_map"] = {auto: ["theirs.T", None] if auto == "AutoTokenizer" else "theirs.I"}
        (model / f"{name}.json").write_text(json.dumps(settings))
    for load in (lambda: load_backbone(str(model), torch.float32), lambda: load_skeleton(str(model), [])):
        if model_type == "internvl":
            load()
        else:
            with pytest.raises(TrainingError, match="custom code"):
                load()
    assert not (tmp_path / "run").exists()
