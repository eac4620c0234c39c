"""Where a backbone comes from, who makes its images, and what a family is."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bisieve import storage
from bisieve.errors import TrainingError
from ray_train.evaluation.scorer import Scorer
from ray_train.model import families
from ray_train.model.backbone import load_backbone
from ray_train.model.families import family_of, known_families

HUB_ID = "some-lab/Some-VL-1B-hf"


def test_every_family_is_tested_with_a_backbone_of_its_own(internvl: Path, qwen: Path, qwen3: Path) -> None:
    types = {
        json.loads((folder / "config.json").read_text())["model_type"] for folder in (internvl, qwen, qwen3)
    }
    assert known_families().keys() == types


def test_another_family_is_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fourth_vl.py").write_text(
        "from dataclasses import replace\n"
        "from ray_train.model.families import qwen3_vl\n"
        "FAMILY = replace(qwen3_vl.FAMILY, model_type='fourth_vl')\n"
    )
    with pytest.raises(TrainingError, match="internvl or qwen2_5_vl or qwen3_vl; found fourth_vl"):
        family_of("fourth_vl")
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    assert family_of("fourth_vl").processor == "Qwen3VLProcessor"
    sys.modules.pop("ray_train.model.families.fourth_vl")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a hub id that was fetched before, in a cache with no hub behind it."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "hub" / f"models--{HUB_ID.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    return repository / "snapshots" / ("0" * 40)


def test_a_hub_id_a_folder_and_a_url_give_the_same_backbone(
    qwen: Path, hub: Path, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(qwen, hub)
    for file in qwen.iterdir():
        storage.write_bytes(f"{s3}/backbones/qwen/{file.name}", file.read_bytes())
    sources = (str(qwen), f"file://{qwen}", f"{s3}/backbones/qwen", HUB_ID)
    folder, *others = (load_backbone(source, torch.float32) for source in sources)
    expected = folder.model.state_dict()
    for backbone in others:
        assert backbone.token_id("<prm>") == folder.token_id("<prm>")
        found = backbone.model.state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_hub_that_does_not_answer_is_told_in_one_line(hub: Path) -> None:
    with pytest.raises(TrainingError, match=r"looked up as a hub id: .*; check --backbone") as caught:
        load_backbone("another-lab/Another-VL", torch.float32)
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
    with pytest.raises(TrainingError, match="found one with torchvision alone; use --image-backend torch"):
        load_backbone(str(model), torch.float32)
