"""The code that the README and docs/ show is run as it is; what cannot be run here is parsed.

A block of bash or Python after an HTML comment such as ``<!-- not run: needs Kubernetes -->`` is not run. Its
commands of ours still go through their parsers, and its imports are looked up.
"""

import ast
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.markdown import PAGES, ROOT, Block, Page, page_id
from support.piped_lines import too_wide
from support.shown_commands import check, noted

from bisieve.cli.main import main
from bisieve.index.manifest import read_manifest

SHOWN = ("bash", "console", "python", "toml", "yaml", "json")  # what is checked
REASONS = (  # for not running a block
    "runs as a test",  # of tests/test_readme.py, which starts Ray
    "not run: starts Ray",
    "not run: reads a hub model",
    "not run: needs a trained model",
    "not run: needs two evaluations",
    "not run: needs a sweep",
    "not run: trains and evaluates a model",
    "not run: installs packages",
    "not run: serves a page until Ctrl-C",
    "not run: needs a Spark cluster",
    "not run: needs a Ray cluster",
    "not run: needs Spark and Ray clusters",
    "not run: needs a Spark cluster and a store",
    "not run: needs Docker",
    "not run: needs Kubernetes",
    "not run: runs in CI, on a fresh checkout",
)

# Nothing but commands of ours, some in a loop, without pipes and redirections.
PLAIN = re.compile(r"(?:\s*(?:bisieve\b[^|<>`(\n]*|for [^\n]+; do|done|#[^\n]*)?\n)*")
FINGERPRINT = re.compile(r"\b[0-9a-f]{16}\b")
DUCKDB = "import duckdb, sys; print(duckdb.sql(sys.argv[2]))"  # as the program of that name does


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the pages have it: a corpus, a file of rollouts, and indexes with alpha 0.05 and 0.2."""
    folder = tmp_path_factory.mktemp("prepared")
    corpus, index = folder / "corpus", folder / "index"
    assert main(["corpus", "--output", str(corpus), "--rollouts", "300", "--benchmark", "20"]) == 0
    assert main(["score", "--input", str(corpus / "annotations"), "--index", str(index)]) == 0
    assert main(["rank", "--index", str(index), "--output", str(folder / "index-10"), "--alpha", "0.2"]) == 0
    shutil.copy(corpus / "annotations/grid_sum.jsonl", folder / "rollouts.jsonl")
    programs = {
        "bisieve": f'exec {sys.executable} -m bisieve "$@"',
        "python": f'exec {sys.executable} "$@"',
        "duckdb": f"exec {sys.executable} -c '{DUCKDB}' \"$@\"",
    }
    (folder / "bin").mkdir()
    for name, line in programs.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / "bin" / name).chmod(0o755)
    return folder


def add_model(folder: Path, name: str) -> None:
    """Write what a training and its evaluation leave, as far as promotion and lineage look at it."""
    model, index = folder / "models" / name, folder / "index"
    (model / "metrics").mkdir(parents=True)
    run = {"run": f"{name}-1", "index": f"file://{index}", "backbone": "backbone"}
    identity = {"index": read_manifest(f"file://{index}").fingerprint, "seed": 0, "selection": "s"}
    card = {**run, "identity": identity, "config": {"max_length": 8192}, "prompt_format": {}}
    bounds = {"overall_f1": 0.6, "pooled_macro_f1": 0.61, "auc": 0.7}
    metrics = {
        "model": f"file://{model}", "run": run["run"], "benchmark": "b.jsonl", "benchmark_sha256": "b",
        "seed": 0, "solutions": 9, "steps": 20, "calibration_steps": 22, "confidence": 0.95,
        "overall_f1": 0.65, "pooled_macro_f1": 0.66, "auc": 0.75, "lower_bounds": bounds,
    }  # fmt: skip
    (model / "bisieve.json").write_text(json.dumps(card))
    (model / "config.json").write_text("{}")
    (model / "metrics/metrics.json").write_text(json.dumps(metrics))


@pytest.fixture
def folder(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the prepared folder with models and files of this repository; the working directory."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    for name in ("new", "mprm"):
        add_model(tmp_path, name)
    for name in ("infra", "jobs", "ray_train"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'lib'}:{ROOT}")
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def bash(text: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def done_here(words: list[str]) -> tuple[int, str]:
    """The exit code and stdout of a command, in this process: a start of Python takes most of the time."""
    with redirect_stdout(io.StringIO()) as printed:
        try:
            return main(words), printed.getvalue()
        except SystemExit as ended:  # of --help
            return int(ended.code or 0), printed.getvalue()


def run(block: Block, names: dict[str, Any], folder: Path) -> None:
    """Run a block of bash or Python, which must succeed, or of a console, which must show what it shows."""
    if block.language == "python":
        exec(compile(block.text, f"line {block.line}", "exec"), names)
    elif block.language == "bash" and PLAIN.fullmatch(block.text.replace("\\\n", "")):
        for program, *words in noted(block.text, folder):
            assert program == "bisieve"
            command = f"line {block.line}: bisieve {' '.join(words)}"
            code, printed = done_here(words)
            assert code == 0, command
            assert "--json" in words or too_wide(printed) == [], command
    elif block.language == "bash":
        done = bash(block.text)
        assert done.returncode == 0, f"line {block.line}: {done.stdout[-1000:]}\n{done.stderr[-2000:]}"
    else:
        for command, shown in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE):
            done = bash(command)
            assert FINGERPRINT.sub("", done.stdout + done.stderr) == FINGERPRINT.sub("", shown)


def look(block: Block, folder: Path) -> list[str]:
    """Parse the commands of a block that is not run; return their names. Look up what it imports."""
    if block.language != "python":
        return [check(words) for words in noted(block.text, folder)]
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module in ("bisieve", "ray_train"):
            assert {one.name for one in node.names} <= set(import_module(node.module).__all__)
    return []


def settle(block: Block, folder: Path) -> None:
    """Read a file that a page shows; one that begins with its name is there for what follows."""
    if block.language == "toml":
        tomllib.loads(block.text)
    elif block.language == "yaml":
        yaml.safe_load(block.text)
    else:
        rest = block.text.strip()
        while rest:
            _, end = json.JSONDecoder().raw_decode(rest)
            rest = rest[end:].strip()
    if name := re.match(r"# ([\w-]+\.(?:toml|ya?ml))\b", block.text):
        (folder / name[1]).write_text(block.text, encoding="utf-8")


@pytest.mark.parametrize("path", [page for page in PAGES if Page(page).blocks], ids=page_id)
def test_the_code_of_a_page_is_true(path: Path, folder: Path) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    for block in Page(path).blocks:
        if block.language in ("toml", "yaml", "json"):
            settle(block, folder)
        elif block.language in SHOWN and block.note:
            look(block, folder)
        elif block.language in SHOWN:
            run(block, names, folder)


def test_blocks_are_of_known_languages_and_have_known_reasons_not_to_be_run() -> None:
    blocks = [block for path in PAGES for block in Page(path).blocks]
    assert {block.language for block in blocks} <= {*SHOWN, "text"}
    assert {block.note for block in blocks} - {""} == set(REASONS)


def test_most_blocks_of_commands_are_run() -> None:
    blocks = [block for path in PAGES for block in Page(path).blocks]
    commands = [block for block in blocks if block.language in ("bash", "console", "python")]
    not_run = [block for block in commands if not block.is_run]
    assert len(not_run) < len(commands) / 2


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bisieve score --input a --idnex b", "did you mean --index"),
        ("for f in 10%; do bisieve train --fraction $f; done", "expected --index"),
        ("bisieve submit --address http://H:8265 train --index i --wrong", "--wrong"),
        ("A=b spark-submit --master m jobs/score_rollouts.py --input a", "expected --index"),
        ("ray job submit -- python ray_train/train_mprm.py --epochs x", "an integer for --epochs"),
    ],
)  # fmt: skip
def test_a_wrong_option_in_a_block_that_is_not_run_is_noticed(text: str, found: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=found):
        look(Block("bash", text, "not run: starts Ray", 1), tmp_path)


def test_nothing_of_a_block_that_is_not_run_happens(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    (tmp_path / "program").write_text("#!/bin/sh\ntouch made\n")
    (tmp_path / "program").chmod(0o755)
    commands = noted("rm kept\n./program && env/bin/pip x\nbisieve path --index a | head -1\n", tmp_path)
    assert commands == [["bisieve", "path", "--index", "a"]]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["kept", "noted", "program"]
