"""The demo with and without Java: its commands are stood in for by programs that say what they are asked."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = {
    "python": 'case "$1" in -c) echo 0;; *) echo "ran python $*";; esac',
    "bisieve": 'echo "ran bisieve $1"',
    "spark-submit": 'echo "ran spark-submit $1"',
    "java": "echo 'openjdk version \"17.0.9\"' >&2",
}


def run_demo(folder: Path, java: bool) -> list[str]:
    """The programs that the demo runs, in order; it must end well."""
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
    assert ("expected Java 17 or newer for Spark; found none" in done.stderr) == (not java)
    assert ("demo: without Java" in done.stdout) == (not java)
    return [line.removeprefix("ran ") for line in done.stdout.splitlines() if line.startswith("ran ")]


def test_the_demo_scores_with_both_engines_and_compares_them(tmp_path: Path) -> None:
    ran = run_demo(tmp_path, java=True)
    assert ran[1:4] == [
        "bisieve score", "spark-submit jobs/score_rollouts.py",
        "python infra/demo/same_index.py .demo/index .demo/index-of-spark",
    ]  # fmt: skip


def test_without_java_the_demo_says_so_and_ends_well(tmp_path: Path) -> None:
    ran = run_demo(tmp_path, java=False)
    assert [one.split()[:2] for one in ran] == [
        ["bisieve", "corpus"], ["bisieve", "score"], ["bisieve", "train"], ["bisieve", "evaluate"],
        ["bisieve", "evaluate"], ["python", "infra/demo/summary.py"],
    ]  # fmt: skip


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
