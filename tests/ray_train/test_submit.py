"""Jobs on a Ray that was started before: ``bisieve submit``, and ``ray job submit`` as in the README."""

import json
import shlex
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.forked_workers import ForkServer
from support.nodes import Nodes, started_nodes
from support.runs import check_learned_the_same, flags, small_run
from support.small_corpus import Corpus
from support.stall import Stall

from ray_train.config import TrainConfig
from ray_train.job_ids import submission_id

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def nodes(free_ports: Callable[..., dict[str, int]], forks: ForkServer) -> Iterator[Nodes]:
    """A head and one other node."""
    with started_nodes(free_ports, forks) as nodes:
        yield nodes


def test_a_job_outlives_its_submitter_and_a_node_and_the_same_command_finds_it_again(
    nodes: Nodes, corpus: Corpus, internvl: Path, trained: TrainConfig, stall: Stall, tmp_path: Path
) -> None:
    output = str(tmp_path / "model")
    options = {**small_run(corpus, internvl, output), "image_root": stall.images, "max_failures": 3}
    command = ["python", "ray_train/submit.py", "--address", nodes.address, "train", *flags(options)]
    first = nodes.submit(command, stderr=subprocess.PIPE)
    name = submission_id("train", output)

    def lose_submitter_and_node() -> None:
        first.terminate()
        nodes.kill(1)
        nodes.add()  # as an autoscaler does

    with stall.run(output, lose_submitter_and_node):
        _, errors = first.communicate()
        assert first.returncode == 128 + signal.SIGTERM
        assert f"bisieve: terminated; job {name} goes on: the same command follows it" in errors
    said = _said(nodes.submit(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
    assert f"job {name}: already running, following its log" in said
    assert said.count("trained on ") == 1
    check_learned_the_same(output, trained.output)

    said = _said(nodes.submit(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
    assert f"job {submission_id('train', output, 2)}: submitted" in said
    assert "nothing to do" in said


def _said(submitter: "subprocess.Popen[str]") -> str:
    said, _ = submitter.communicate()
    assert submitter.returncode == 0, said[-4000:]
    return said


def test_a_job_that_cannot_run_says_why_in_one_line_and_fails_however_it_was_submitted(
    nodes: Nodes, tmp_path: Path
) -> None:
    # Of settings of its own: it imports all that it needs from what it has taken along.
    runtime = json.dumps({"env_vars": {"PYTHONPATH": "lib:.", "HF_HOME": str(tmp_path / "hub")}})
    typo = ["--model", "typo", "--benchmark", "typo", "--image-root", "typo", "--output", str(tmp_path / "m")]
    ours = ["python", "ray_train/submit.py", "--address", nodes.address, "evaluate", *typo]
    rays = [*shlex.split("ray job submit --working-dir . --address"), nodes.address, "--runtime-env-json"]
    rays += [runtime, "--", "python", "ray_train/evaluate_mprm.py", *typo]
    picks = [word.replace("--benchmark", "--candidates") for word in typo]
    best_of = ["python", "ray_train/submit.py", "--address", nodes.address, "best-of", *picks]
    for command in (ours, rays, best_of):
        submitter = nodes.submit(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said, _ = submitter.communicate()
        assert submitter.returncode == 1, said
        assert "bisieve: error: expected" in said, said
        assert "Traceback" not in said
        assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("token", ["none", "wrong"])
def test_a_ray_that_wants_a_token_is_answered_by_one_line_that_names_it(
    nodes: Nodes, token: str, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("0" * 64)
    kept = {name: value for name, value in nodes.environment.items() if not name.startswith("RAY_AUTH")}
    given = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    environment = {**kept, "HOME": str(tmp_path), **(given if token == "wrong" else {})}
    typo = ["--model", "m", "--benchmark", "b", "--image-root", "i", "--output", str(tmp_path / "m")]
    done = subprocess.run(
        ["python", "ray_train/submit.py", "--address", nodes.address, "evaluate", *typo],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN" in line


def test_a_job_takes_the_code_along_and_the_configs_and_nothing_else(tmp_path: Path) -> None:
    from ray._private.runtime_env.packaging import create_package

    folder = tmp_path / "checkout"
    for name in (
        "lib/bisieve/a.py", "ray_train/run/b.py", "mine.toml", "ray_train/__pycache__/b.pyc",
        ".git/objects/a", ".venv/bin/python", "a.jsonl", "data/a.jsonl", "tests/a.py", "data/mine.toml",
        "sweep.yaml",
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    for name in (".rayignore", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    create_package(str(folder), tmp_path / "package.zip", include_gitignore=True)
    taken = {name for name in zipfile.ZipFile(tmp_path / "package.zip").namelist() if not name.endswith("/")}
    assert taken == {"lib/bisieve/a.py", "ray_train/run/b.py", "mine.toml", "sweep.yaml"}
