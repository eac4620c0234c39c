"""The local engine writes what Spark writes, to the byte, and needs nothing of it."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import forms, reference
from support.disks import run_on
from support.index_files import contents

from bisieve.errors import StorageError
from bisieve.index import writer
from bisieve.index.reader import open_index
from bisieve.io.storage import write_bytes
from bisieve.local import engine
from bisieve.local.engine import local_engine
from bisieve.pipeline.rank import rank_index
from bisieve.scan import chunks, group_steps
from bisieve.shards import listing as shard_listing

SIZES = {"big": 300, "a-small": 7, "ä": 40}
TIES_AND_SCOPES = [("file", "source"), ("hash", "global"), ("spread", "source"), ("spread", "global")]


@pytest.fixture
def many_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tasks, chunks, files and row groups of a corpus that is small."""
    for module, name, value in (
        (writer, "ROWS_PER_FILE", 100), (writer, "ROWS_PER_GROUP", 30),
        (shard_listing, "SMALLEST_TASK", 40_000), (shard_listing, "OPENING", 0),
        (chunks, "CHUNK_ROWS", 64), (group_steps, "HELD_BYTES", 10_000),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def same(
    score_with_spark: Callable[..., Any], score: Callable[..., Any], tmp_path: Path
) -> Callable[..., dict[str, bytes]]:
    """Score with both engines, and return the files that both have written."""

    def run(corpus: Path, name: str = "index", **options: Any) -> dict[str, bytes]:
        score_with_spark(corpus, tmp_path / "spark" / name, **options)
        score(corpus, tmp_path / "local" / name, **options)
        found = contents(tmp_path / "local" / name)
        assert found == contents(tmp_path / "spark" / name)
        return found

    return run


@pytest.mark.parametrize(("ties", "scope"), TIES_AND_SCOPES)
@pytest.mark.parametrize("layout", ["rollouts", "steps"])
def test_an_index_has_the_bytes_that_spark_gives_it(
    many_small_parts: None,
    same: Callable[..., Any],
    tmp_path: Path,
    layout: str,
    ties: str,
    scope: str,
) -> None:
    reference.write_random_corpus(tmp_path / "rollouts", seed=5, sizes=SIZES)
    reference.write_as_steps(tmp_path / "rollouts", tmp_path / "steps", seed=5)
    broken = tmp_path / layout / "broken.jsonl"
    broken.write_bytes(b"\n".join([b"broken", b"{}", b'{"rollout_id": "x", "step_index": 3}'] * 50))
    files = same(tmp_path / layout, ties=ties, scope=scope, seed=3)
    assert len([name for name in files if "rollouts/part" in name]) == 4


FORMS = ("jsonl", "jsonl.gz", "jsonl.zst", "nested.parquet", "flat.parquet", "steps.jsonl", "steps.parquet")


def test_an_index_of_shards_of_all_kinds_has_the_bytes_that_spark_gives_it(
    same: Callable[..., Any], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    for place, form in enumerate(FORMS):
        records = [rollout([n / 20, 1.0], rollout_id=f"{form}-{n}") for n in range(place, 20)]
        forms.write_form(tmp_path / "corpus" / f"s{place}", form, records)
    same(tmp_path / "corpus")
    same(tmp_path / "corpus", "by strategy", strategy="mixed", threshold=0.3, alpha=0.2, seed=4)


def test_a_rerun_takes_from_an_index_of_either_engine_what_has_not_changed(
    score_with_spark: Callable[..., Any],
    score: Callable[..., Any],
    many_small_parts: None,
    tmp_path: Path,
) -> None:
    reference.write_random_corpus(tmp_path / "rollouts", seed=6, sizes=SIZES)
    corpus = tmp_path / "corpus"
    reference.write_as_steps(tmp_path / "rollouts", corpus, seed=6)
    shutil.copy(tmp_path / "rollouts/big.jsonl", corpus / "whole.jsonl")
    score_with_spark(corpus, tmp_path / "index")
    first, *_ = sorted(corpus.iterdir())
    lines = first.read_bytes().splitlines(keepends=True)
    first.write_bytes(b"".join(lines[3:]))  # some rollouts lose a step, others go
    told: dict[str, Any] = {}
    shutil.copytree(tmp_path / "index", tmp_path / "on spark")
    score_with_spark(corpus, tmp_path / "on spark")
    score(corpus, tmp_path / "index", emit=lambda event, text="", **more: told.update({event: more}))
    assert told["listed"]["to_scan"] == 1
    assert told["scanned"]["kept"] > 300
    assert contents(tmp_path / "index") == contents(tmp_path / "on spark")
    assert not score(corpus, tmp_path / "index")[1]
    assert not score_with_spark(corpus, tmp_path / "index")[1]


# ---- Without Spark -----------------------------------------------------------------------------------------


@pytest.fixture
def in_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bisieve.local.engine.SMALL", 0)
    monkeypatch.setattr("bisieve.local.engine.usable_workers", lambda: 2)


@pytest.mark.parametrize("layout", ["rollouts", "steps"])
def test_processes_write_what_one_writes(
    score: Callable[..., Any],
    many_small_parts: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    layout: str,
) -> None:
    reference.write_random_corpus(tmp_path / "rollouts", seed=7, sizes=SIZES)
    reference.write_as_steps(tmp_path / "rollouts", tmp_path / "steps", seed=7)
    told: dict[str, Any] = {}
    options = {"ties": "spread", "scope": "global"}
    score(tmp_path / layout, tmp_path / "one", **options)
    monkeypatch.setattr("bisieve.local.engine.SMALL", 0)
    monkeypatch.setattr("bisieve.local.engine.usable_workers", lambda: 2)
    score(
        tmp_path / layout, tmp_path / "two", **options,
        emit=lambda event, text="", **more: told.update({event: more}),
    )  # fmt: skip
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert told["scanned"]["rollouts"] == sum(SIZES.values())
    assert told["scanned"]["bytes"] == sum(path.stat().st_size for path in (tmp_path / layout).iterdir())


def test_processes_read_and_write_s3(
    s3: str, score: Callable[..., Any], many_small_parts: None, in_processes: None, tmp_path: Path
) -> None:
    reference.write_random_corpus(tmp_path / "corpus", seed=7, sizes=SIZES)
    for path in (tmp_path / "corpus").iterdir():
        write_bytes(f"{s3}/local/corpus/{path.name}", path.read_bytes())
    index, _ = score(f"{s3}/local/corpus", f"{s3}/local/index")
    score(tmp_path / "corpus", tmp_path / "index")
    on_disk = open_index(str(tmp_path / "index"))
    assert [(file.rows, file.path.rpartition("/")[2]) for file in index.files] == [
        (file.rows, file.path.rpartition("/")[2]) for file in on_disk.files
    ]
    assert index.rollouts_by_source == on_disk.rollouts_by_source == SIZES


def test_rank_writes_what_score_writes_in_processes_too(
    score: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_processes: None
) -> None:
    reference.write_random_corpus(tmp_path / "corpus", seed=8, sizes=SIZES)
    monkeypatch.setattr(writer, "ROWS_PER_FILE", 100)
    score(tmp_path / "corpus", tmp_path / "old", alpha=0.2)
    score(tmp_path / "corpus", tmp_path / "scored", ties="spread")
    old = open_index(str(tmp_path / "old"))
    parameters = open_index(str(tmp_path / "scored")).manifest.parameters
    assert rank_index(local_engine, old, parameters, str(tmp_path / "ranked"))[1]
    assert contents(tmp_path / "ranked") == contents(tmp_path / "scored")


COMMAND = """
import sys
import bisieve.local.engine, bisieve.pipeline.scan_tasks
from support import tasks
bisieve.local.engine.SMALL, bisieve.local.engine.usable_workers = 0, lambda: 2
bisieve.pipeline.scan_tasks.scan_rollout_split = tasks.{scan}
from bisieve.cli.main import main
sys.exit(main(["score", "--input", "corpus", "--index", "index"]))
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """Start ``bisieve score`` on a corpus of two tasks, with another scan in its place."""
    reference.write_random_corpus(tmp_path / "corpus", seed=9, sizes={"a": 30, "b": 30})
    (tmp_path / "tmp").mkdir()
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": path}

    def run(scan: str) -> "subprocess.Popen[str]":
        words = [
            sys.executable,
            "-c",
            f"import bisieve.shards.listing; bisieve.shards.listing.SMALLEST_TASK = 1\n{COMMAND}",
        ]
        words[2] = words[2].format(scan=scan)
        return subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
        )

    return run


def scanning(folder: Path) -> list[int]:
    """The workers that scan, once there is one."""
    for _ in range(600):
        if found := [int(path.name.rpartition(" ")[2]) for path in folder.glob("scanned by *")]:
            return found
        time.sleep(0.1)
    raise AssertionError("nobody scans")


def gone(pids: list[int]) -> bool:
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_run_that_is_told_to_end_leaves_no_process_no_file_and_no_index(
    start: Callable[..., Any], tmp_path: Path, number: int, code: int, word: str
) -> None:
    running = start("slow_scan")
    workers = scanning(tmp_path)
    running.send_signal(number)
    said = running.communicate(timeout=60)[1]
    assert running.returncode == code
    assert said.splitlines()[-1] == f"bisieve: {word}; nothing half-written was made visible"
    assert gone(workers)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not list((tmp_path / "index").rglob("*"))


def test_workers_of_a_run_that_is_killed_end_and_remove_its_files(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    running = start("slow_scan")
    workers = scanning(tmp_path)
    running.kill()
    running.communicate()
    assert gone(workers)
    assert list((tmp_path / "tmp").glob("bisieve-*")) == []  # a folder of multiprocessing's own is left


def test_a_worker_that_is_killed_leaves_no_trace_in_the_index(
    start: Callable[..., Any], score: Callable[..., Any], tmp_path: Path
) -> None:
    running = start("dying_scan")
    said = running.communicate(timeout=120)[1]
    assert running.returncode == 0, said
    assert "of scan: try 2 now, after CorpusError" in said
    score(tmp_path / "corpus", tmp_path / "unharmed")
    assert contents(tmp_path / "index") == contents(tmp_path / "unharmed")


def test_neither_java_nor_pyspark_is_needed(tmp_path: Path) -> None:
    reference.write_random_corpus(tmp_path / "corpus", seed=9, sizes={"a": 30, "b": 30})
    script = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pyspark", "py4j", "pandas", "torch", "ray"):
            raise ModuleNotFoundError(f"blocked: {name}", name=name)
sys.meta_path.insert(0, Blocked())
from bisieve.cli.main import main
for words in (["score", "--input", "corpus"], ["rank", "--alpha", "0.2", "--output", "ranked"]):
    assert main([*words, "--index", "index"]) == 0
sys.exit(main(["score", "--input", "corpus", "--index", "other", "--engine", "spark"]))
"""
    environment = {**os.environ, "JAVA_HOME": "/nowhere", "PATH": "/nowhere"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment,
        check=False,
    )  # fmt: skip
    assert open_index(str(tmp_path / "index")).manifest.rollouts == 60
    assert open_index(str(tmp_path / "ranked")).manifest.parameters.alpha == 0.2
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("pip install 'bisieve[score]' brings it")


def test_a_temporary_folder_that_cannot_be_written_is_named(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("TMPDIR", "/proc/nothing")
    with pytest.raises(StorageError, match="/proc/nothing"):
        score(write_jsonl("a.jsonl", [rollout()]), tmp_path / "index")


def test_a_temporary_folder_that_gets_full_is_named(
    disk: Path, write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    names = [f"{number:x}-{random.Random(number).randbytes(32).hex()}" for number in range(1000)]
    write_jsonl("corpus/a.jsonl", [rollout(rollout_id=name) for name in names])
    command = [str(Path(sys.executable).with_name("bisieve")), "score", "--input", str(tmp_path / "corpus")]
    command += ["--index", str(tmp_path / "index"), "--engine", "local"]
    done = run_on("small", disk, ["env", f"TMPDIR={disk}", *command])
    assert (done.returncode, done.stdout) == (1, ""), done.stderr  # no file is left there
    error = done.stderr.splitlines()[-1]
    assert re.match(f"bisieve: error: expected room for {disk}/bisieve-.*; found No space left", error)
    assert error.endswith("free space there, or set TMPDIR to a folder on another disk")
    assert not list((tmp_path / "index").rglob("*.parquet"))


def test_progress_is_told_between_tasks_that_run_in_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "REPORT_EVERY", 0.0)
    told: list[tuple[str, int, int]] = []
    alone = engine.LocalEngine(1, str(tmp_path), in_this_process=True)
    with alone.watched(lambda *at: told.append(at)):
        assert alone.spread([1, 2, 3]).collect("scan") == [1, 2, 3]
    assert told == [("scan", 1, 3), ("scan", 2, 3), ("scan", 3, 3)]
