"""What ``bisieve train`` and ``bisieve submit`` refuse before Ray starts, as the command says it.

All commands run in one process, since the imports take longer than the checks.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.runs import flags, small_run
from support.small_corpus import Corpus

# In a mount namespace of its own, so that no mount outlives it.
_MOUNTED = """
mount -t tmpfs -o size=64k none "$1" && head -c 64k /dev/zero > "$1/full"
mount -t tmpfs -o ro none "$2" || exit 77
shift 2
exec "$@"
"""
_COMMANDS = """
import contextlib, io, json, os, sys, time
from bisieve.cli.main import main

for name, words in json.load(open(sys.argv[1])).items():
    began, said = time.monotonic(), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(words)
    print(json.dumps([name, code, said.getvalue(), time.monotonic() - began, "ray" in sys.modules]))
"""

REFUSED = {
    "another model": "a backbone of type gemma3 or .*; found bert; choose another --backbone",
    "no model": r"a model \(config\.json\) at \S*/nothing; found none; check --backbone",
    "original InternVL": r"found the original one.*--backbone OpenGVLab/InternVL3-8B-hf",
    "no weights": r"weights as \S*\.safetensors at \S*/no-weights; found none of these, and pickled ones",
    "torn weights": r"weights as \S*\.safetensors at \S*/torn; found .*; copy the model again",
    "silent hub": "a model at nobody/model; found .* the hub does not answer; check --backbone",
    "mlflow-skinny": "found mlflow-skinny, which reads none; pip install mlflow",
    "broken header": r"found 1 of 10 without: 4\.png; .*--skip-broken-images 1",
    "full disk": r"room for \S*/full/run; found No space left on device: 0\.0 MB free in",
    "read-only disk": r"a disk that can be written at \S*/read-only/run; found Read-only file system",
    "no index": "expected .*/no-index",
    "submit another model": "a backbone of type gemma3 or .*; found bert; choose another --backbone",
    "submit to evaluate another model": "a backbone of type .*; found bert; choose another --model",
    "submit with a wrong option": r"expected a fraction in \(0, 1\]",
}


@pytest.fixture(scope="module")
def answers(corpus: Corpus, internvl: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What each command gave: exit code, stderr, seconds, and whether Ray was imported."""
    folder = tmp_path_factory.mktemp("early")
    shutil.copytree(corpus.images, folder / "images")
    (folder / "images/4.png").write_bytes(b"no image")
    for name, kind in {"bert": "bert", "InternVL3-8B": "internvl_chat"}.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps({"model_type": kind, "auto_map": {}}))
    for name in ("no-weights", "torn"):
        shutil.copytree(internvl, folder / name)
        (weights,) = (folder / name).glob("*.safetensors")
        if name == "torn":
            weights.write_bytes(weights.read_bytes()[:-100])
        else:
            weights.unlink()
    for name in ("full", "read-only", "nothing", "tmp"):
        (folder / name).mkdir()

    def words(**options: Any) -> list[str]:
        return flags(small_run(corpus, internvl, str(folder / "output")) | options)

    bert = str(folder / "bert")
    submit = ["submit", "--address", "http://127.0.0.1:1"]
    commands = {
        "another model": ["train", *words(backbone=bert)],
        "no model": ["train", *words(backbone=str(folder / "nothing"))],
        "original InternVL": ["train", *words(backbone=str(folder / "InternVL3-8B"))],
        "no weights": ["train", *words(backbone=str(folder / "no-weights"))],
        "torn weights": ["train", *words(backbone=str(folder / "torn"))],
        "silent hub": ["train", *words(backbone="nobody/model")],
        "mlflow-skinny": ["train", *words(track="mlflow")],
        "broken header": ["train", *words(image_root=str(folder / "images"), check_images=True)],
        "full disk": ["train", *words(output=str(folder / "full/run"))],
        "read-only disk": ["train", *words(output=str(folder / "read-only/run"))],
        "no index": ["train", *words(index=str(folder / "no-index"))],
        "submit another model": [*submit, "train", *words(backbone=bert)],
        "submit to evaluate another model": [
            *submit, "evaluate", "--model", bert, "--benchmark", corpus.benchmark,
            "--image-root", corpus.images, "--output", str(folder / "output"),
        ],
        "submit with a wrong option": [*submit, "train", *words(fraction=2.0)],
    }  # fmt: skip
    (folder / "commands.json").write_text(json.dumps(commands))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_", "HF_"))}
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and nobody listens
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", _MOUNTED, "sh", str(folder / "full"), str(folder / "read-only"),
             sys.executable, "-c", _COMMANDS, str(folder / "commands.json")],
            env=kept | {
                "TMPDIR": str(folder / "tmp"), "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db",
                "HF_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}",
            },
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list((folder / "tmp").glob("ray*")), "Ray was started"
    assert not (folder / "output").exists()
    return {name: rest for name, *rest in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_be_known_early_is_one_line_before_ray_starts(
    name: str, answers: dict[str, list[Any]]
) -> None:
    code, said, seconds, ray_was_imported = answers[name]
    (line,) = said.splitlines()
    assert re.search(rf"^bisieve: error: .*{REFUSED[name]}", line), line
    assert code != 0
    assert not ray_was_imported
    assert seconds < 60, "most of it the imports of the first command, on a busy machine"
