"""The demo with and without Java: its commands are stood in for by programs that say what they are asked."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = {
    "python": 'case "$1" in -c) echo 0;; *) echo "python $*" >>ran;; esac',
    "bisieve": 'echo "bisieve $1" >>ran',
    "spark-submit": 'echo "spark-submit $1" >>ran; echo WARNING: of the JVM >&2',
    "java": "echo 'openjdk version \"17.0.9\"' >&2",
}


def run_demo(folder: Path, java: bool) -> tuple[list[str], str]:
    """The programs that the demo runs, in order, and what it shows; it must end well."""
    for name, script in PROGRAMS.items():
        program = folder / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    (folder / "infra").symlink_to(ROOT / "infra")
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "JAVA_HOME": "" if java else "/nowhere"}
    done = subprocess.run(
        ["sh", "infra/demo/run.sh"], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return (folder / "ran").read_text().splitlines(), done.stdout


def test_the_demo_scores_with_both_engines_and_compares_them(tmp_path: Path) -> None:
    ran, _ = run_demo(tmp_path, java=True)
    assert ran[1:5] == [
        "bisieve score", "bisieve report", "spark-submit jobs/score_rollouts.py",
        "python infra/demo/same_index.py .demo/index .demo/index-of-spark",
    ]  # fmt: skip


def test_without_java_the_demo_says_so_and_ends_well(tmp_path: Path) -> None:
    ran, shown = run_demo(tmp_path, java=False)
    assert [one.split()[:2] for one in ran] == [
        ["bisieve", "corpus"], ["bisieve", "score"], ["bisieve", "report"], ["bisieve", "train"],
        ["bisieve", "train"], *[["bisieve", "evaluate"]] * 3, ["bisieve", "compare"],
        ["python", "infra/demo/summary.py"],
    ]  # fmt: skip
    assert "[4/7] left out: Spark needs Java 17 or newer" in shown


@pytest.mark.parametrize("java", [True, False], ids=["with Java", "without"])
def test_each_stage_is_named_and_timed_within_100_columns(tmp_path: Path, java: bool) -> None:
    _, shown = run_demo(tmp_path, java)
    assert max(map(len, shown.splitlines())) <= 100
    begun = re.findall(r"^\[(\d)/7\] (?!done)", shown, re.MULTILINE)
    ended = re.findall(r"^\[(\d)/7\] done in \d+ s$", shown, re.MULTILINE)
    assert begun == list("234567")
    assert ended == (begun if java else list("23567"))
    assert "of the JVM" not in shown


def test_the_readme_shows_what_the_demo_prints_at_its_end(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```text\n(trained on .*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    metrics = ("overall_f1", "pooled_macro_f1", "auc")
    table = dict(zip(metrics, (line.split()[-4:] for line in shown.splitlines()[2:5]), strict=True))
    position = {metric: float(table[metric][0]) for metric in metrics}
    for place, name in enumerate(("untrained", "random", "best"), 1):
        folder = tmp_path / "metrics" / name
        folder.mkdir(parents=True)
        found: dict[str, Any] = {metric: float(table[metric][place]) for metric in metrics}
        found["position_baseline"] = position
        (folder / "metrics.json").write_text(json.dumps(found))
    for file, content in (
        ("index/manifest.json", {"rollouts": 4000}),
        ("models/best/bisieve.json", {"rollouts": 1000, "fraction_asked": 0.25}),
    ):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(json.dumps(content))
    summary = [sys.executable, ROOT / "infra/demo/summary.py", tmp_path]
    done = subprocess.run(summary, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(shown)
    # Models that are no better than the position of a step alone have learned nothing: the demo fails.
    found["position_baseline"] = position | {"auc": 0.75}
    (tmp_path / "metrics/best/metrics.json").write_text(json.dumps(found))
    done = subprocess.run(summary, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "clearly beat the position of a step" in done.stderr


def run_stage(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sh", ROOT / "infra/stage.sh", "logs/log", "looking", *command],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_stage_is_one_line_with_its_seconds(tmp_path: Path) -> None:
    done = run_stage(tmp_path, "sh", "-c", "echo much; echo more >&2")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"looking \.\.\. done in \d+ s\n", done.stdout)
    assert (tmp_path / "logs/log").read_text() == "much\nmore\n"


def test_a_stage_that_fails_shows_its_last_lines_and_names_its_log(tmp_path: Path) -> None:
    done = run_stage(tmp_path, "sh", "-c", "echo no route; exit 7")
    assert done.returncode == 7
    assert re.fullmatch(r"looking \.\.\. failed after \d+ s\n", done.stdout)
    assert done.stderr.startswith("no route\nbisieve: error: ")
    assert done.stderr.endswith("found exit code 7; all that it wrote is in logs/log\n")


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        ("nothing", 0, ": equal"),
        ("a byte", 1, "part-000000.parquet differs"),
        ("a file more", 1, "more differs"),
        ("alpha", 1, ": different"),
    ],
)
def test_two_indexes_are_the_same_only_to_the_byte(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any],
    tmp_path: Path, changed: str, code: int, said: str,
) -> None:  # fmt: skip
    shard = write_jsonl("a.jsonl", [rollout()])
    score(shard, tmp_path / "one", alpha=0.2 if changed == "alpha" else 0.05)
    score(shard, tmp_path / "two")
    part = next((tmp_path / "two").rglob("rollouts/part-*"))
    if changed == "a byte":
        part.write_bytes(part.read_bytes() + b"x")
    if changed == "a file more":
        shutil.copy(part, tmp_path / "two/more")
    done = subprocess.run(
        [sys.executable, ROOT / "infra/demo/same_index.py", tmp_path / "one", tmp_path / "two"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert said in done.stdout
