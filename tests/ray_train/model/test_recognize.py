"""What is said of a backbone from its config.json alone."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bisieve.errors import BisieveError
from ray_train.model.recognize import check_model


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
        "import sys; from ray_train.model.recognize import check_model\n"
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
        "from ray_train.model.recognize import check_model\n"
        "from bisieve.errors import BisieveError\n"
        "try:\n    check_model('nobody/has-this', '--model')\nexcept BisieveError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "looked up as a hub id: the hub does not answer" in done.stdout
