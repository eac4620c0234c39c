"""What a model says of itself, and what lies beside it: what cannot be read is named in one line."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from bisieve.errors import BisieveError, TrainingError
from ray_train.evaluation.scorer import Scorer
from ray_train.model.backbone import load_backbone
from ray_train.model.metadata import check_model, read_card, trained_card

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


@pytest.mark.parametrize(("left", "found"), [("config.json", "none"), ("bisieve.json", "no config.json")])
def test_a_folder_with_a_part_of_a_trained_model_is_refused_for_what_it_lacks(
    left: str, found: str, model: Path
) -> None:
    (model / "bisieve.json").write_text(json.dumps(CARD))
    for name in {"config.json", "bisieve.json"} - {left}:
        (model / name).unlink()
    with pytest.raises(TrainingError, match=f"trained, with bisieve.json, at .*; found {found}; "):
        trained_card(str(model))


def test_a_mistyped_key_of_the_prompt_format_is_named(model: Path) -> None:
    prompt_format = {**CARD["prompt_format"], "hed": ""}
    (model / "bisieve.json").write_text(json.dumps(CARD | {"prompt_format": prompt_format}))
    with pytest.raises(TrainingError, match=r"bisieve\.json of .*'hed'; check --model"):
        Scorer(str(model), max_length=0, max_tiles=1)


@pytest.mark.parametrize("kept", [0, 5, 4000])
def test_damaged_weights_are_named(kept: int, model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(TrainingError, match=r"found model\.safetensors that is damaged or cut off;") as e:
        load_backbone(str(model), torch.float32)
    assert "again" not in str(e.value)


def test_a_missing_tokenizer_is_named(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    with pytest.raises(TrainingError, match=r"found no tokenizer\.json: .*; check --backbone or --model"):
        load_backbone(str(model), torch.float32)


def test_a_name_that_is_no_folder_is_said_to_be_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    def nothing(name: str) -> None:
        raise OSError(f"{name} is not a valid model identifier")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", nothing)
    with pytest.raises(TrainingError, match="no such folder here, and looked up as a hub id"):
        load_backbone("Mistyped", torch.float32)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "bert"}, "a backbone of type .* or internvl or .*; found bert"),
        ({"architectures": []}, "a backbone of type .*; found None"),
        ([1], "a backbone of type .*; found None"),
        (
            {"model_type": "internvl_chat", "auto_map": {"AutoModel": "modeling_internvl_chat.X"}},
            "--backbone OpenGVLab/InternVL3-8B-hf",
        ),
    ],
    ids=["bert", "no type", "no object", "original InternVL"],
)
def test_what_is_no_backbone_is_named(config: object, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "InternVL3-8B"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BisieveError, match=message):
        check_model(str(folder), "--backbone")
    with pytest.raises(BisieveError, match=message):
        check_model(f"file://{folder}", "--backbone")


def test_a_config_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BisieveError, match=r"expected JSON in config\.json"):
        check_model(str(tmp_path), "--model")


def test_a_known_family_passes_without_ray(internvl: Path) -> None:
    code = (
        "import sys; from ray_train.model.metadata import check_model\n"
        "check_model(sys.argv[1], '--backbone'); assert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(internvl)], check=True)


def test_a_hub_that_does_not_answer_is_said_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        began = time.monotonic()
        with pytest.raises(BisieveError, match="looked up as a hub id: the hub does not answer"):
            check_model("nobody/has-this", "--backbone")
        assert time.monotonic() - began < 10


def test_a_hub_id_is_looked_up_by_a_command_that_has_imported_nothing_else(tmp_path: Path) -> None:
    code = (
        "from ray_train.model.metadata import check_model\n"
        "from bisieve.errors import BisieveError\n"
        "try:\n    check_model('nobody/has-this', '--model')\nexcept BisieveError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "looked up as a hub id: the hub does not answer" in done.stdout
