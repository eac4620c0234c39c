"""Every command that writes, on a disk that is full, read-only or another user's: one line, nothing left."""

import json
import random
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.disks import REFUSALS, run_on

BISIEVE = str(Path(sys.executable).with_name("bisieve"))

_COMMANDS = (
    "rank --index {index} --output {disk}/rank",
    "export --index {index} --fraction 1 --output {disk}/best.jsonl",
    "export --index {index} --fraction 1 --format records --output {disk}/records",
    "report --index {index} --html {disk}/page.html --quiet",
    "explore --index {index} --exclude {disk}/exclude.txt --port 0",
    "diff --index {index} --fraction 0.1 --other-fraction 1 --output {disk}/changes.parquet",
    "corpus --output {disk}/corpus --rollouts 60 --benchmark 4 --quiet",
)
_PROGRAM = """
import contextlib, io, json, sys
from bisieve.cli.main import main
ended = []
for words in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(words)
    ended.append((code, said.getvalue()))
print(json.dumps(ended))
"""


@pytest.mark.parametrize("kind", ["full", "read-only", "another user's"])
def test_a_command_ends_with_the_disks_words_and_leaves_no_part_of_a_file(
    kind: str, disk: Path, indexed: Path
) -> None:
    words = [shlex.split(command.format(index=indexed, disk=disk)) for command in _COMMANDS]
    done = run_on(kind, disk, [sys.executable, "-c", _PROGRAM, json.dumps(words)])
    ended, *left = done.stdout.splitlines()
    for (code, said), command in zip(json.loads(ended), words, strict=True):
        assert (code, said.count("\n")) == (1, 1), f"{command}: {said}"
        refusal = REFUSALS[kind].format(file=".*", disk=disk)
        assert re.fullmatch(f"bisieve: error: {refusal}", said.strip()), f"{command}: {said}"
    assert left == [f"{disk}/filled"] * (kind == "full")
    assert done.stderr == ""


@pytest.mark.spark
def test_a_disk_that_gets_full_under_spark_is_named_and_each_try_of_a_task_is_said(
    disk: Path, write_jsonl: Callable[..., Path], rollout: Callable[..., Any]
) -> None:
    names = [f"{number:x}-{random.Random(number).randbytes(32).hex()}" for number in range(1000)]
    shard = write_jsonl("a.jsonl", [rollout(rollout_id=name) for name in names])
    command = [BISIEVE, "score", "--input", str(shard), "--index", f"{disk}/index", "--master", "local[2,3]"]
    done = run_on("small", disk, command)
    full = f"expected room for file://{disk}/index/versions/.*; found No space left on device.*; free space.*"
    lines = [
        "1 of 1 shards to scan",
        "scanned 1,000 rollouts .*",
        *(f"Spark's task 0 of write: try {number} now, after DiskError: {full[:40]}.*" for number in (2, 3)),
        f"bisieve: error: {full}",
    ]
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if " tasks" not in line]  # how far it is
    for line, expected in zip(said, lines, strict=True):
        assert re.fullmatch(expected, line), done.stderr
    assert done.stdout == ""


def test_the_doctor_fails_on_a_full_folder_of_temporary_files(disk: Path) -> None:
    done = run_on("full", disk, ["env", f"TMPDIR={disk}", BISIEVE, "doctor"])
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("failed"))
    assert line.split(maxsplit=2)[1:] == [
        "disk", f"0.0 GB free in {disk}, 10 GB needed; free 10 GB there or set TMPDIR",
    ]  # fmt: skip
    assert done.returncode == 1


@pytest.mark.parametrize("kind", ["small", "read-only"])
def test_a_ray_of_our_own_is_not_started_in_a_folder_without_room(kind: str, disk: Path) -> None:
    program = (
        "import sys; from bisieve.errors import DiskError; from ray_train.cluster import check_disk_room\n"
        "try: check_disk_room(sys.argv[1], 'RAY_TMPDIR')\nexcept DiskError as error: print(error)"
    )
    done = run_on(kind, disk, [sys.executable, "-c", program, str(disk)])
    said = {
        "small": f"expected at least 100 MB for Ray's files in {disk}; found 0.0 MB free; .* or ",
        "read-only": f"expected a disk that can be written at {disk}; found .*",
    }
    (line,) = done.stdout.splitlines()
    assert re.fullmatch(f"{said[kind]}set RAY_TMPDIR to another folder", line), done.stdout + done.stderr
