"""Publishing: one pointer, versions beside each other, and what becomes of old ones."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from bisieve.cli.main import main
from bisieve.errors import StorageError
from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection
from bisieve.index.versions import clean
from bisieve.io.conditional import Pointer, read_pointer, replace_pointer
from bisieve.io.storage import stored_files
from bisieve.io.urls import canonical
from bisieve.local.engine import local_engine
from bisieve.pipeline import run as job
from bisieve.pipeline.rank import rank_index
from bisieve.shards.fetch import fetch_rollouts


@pytest.fixture(params=["disk", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "disk":
        return canonical(str(tmp_path))
    return f"{request.getfixturevalue('s3')}/{tmp_path.name}"


def wins(old: Pointer, data: bytes) -> bool:
    try:
        replace_pointer(old, data)
    except StorageError as error:
        return "found a version written by another run" not in str(error)
    return True


def test_of_many_writers_that_read_the_same_pointer_one_wins(folder: str) -> None:
    url = f"{folder}/pointer/manifest.json"
    for turn in ("first", "second"):
        old, written = read_pointer(url), [f"{turn} {number}".encode() for number in range(8)]
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(wins, [old] * 8, written))
        assert won.count(True) == 1
        assert read_pointer(url).data == written[won.index(True)]


def test_a_run_that_was_overtaken_publishes_nothing(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], folder: str
) -> None:
    shard, index = write_jsonl("a.jsonl", [rollout()]), f"{folder}/index"
    score(shard, index)
    with pytest.MonkeyPatch.context() as patch:
        check = job.check_unchanged

        def overtaken(*args: Any) -> None:
            patch.undo()
            check(*args)
            score(shard, index, alpha=0.3)

        patch.setattr(job, "check_unchanged", overtaken)
        with pytest.raises(StorageError, match="found a version written by another run"):
            score(shard, index, alpha=0.2)
    assert open_index(index).manifest.parameters.alpha == 0.3


def test_old_versions_are_listed_and_cleaned_and_their_readers_are_not_disturbed_before(
    score: Callable[..., Any],
    write_jsonl: Callable[..., Path],
    rollout: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shard, url = write_jsonl("a.jsonl", [rollout(), rollout([1.0])]), str(tmp_path / "index")
    score(shard, url)
    first = open_index(url)
    score(shard, url, alpha=0.2)
    assert (
        read_selection(first, 1.0).rows["bis"].to_pylist()
        != read_selection(open_index(url), 1.0).rows["bis"].to_pylist()
    )
    assert main(["versions", "--index", url]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] == "*" for line in sorted(lines, key=lambda line: "0.05" in line)] == [
        True,
        False,
    ]

    assert main(["clean", "--index", url]) == 0
    assert "removed 0 files" in capsys.readouterr().out
    long_ago = time.time() - 8 * 86400
    for file in stored_files(url):
        os.utime(file.url.removeprefix("file://"), (long_ago, long_ago))
    (tmp_path / "index/versions/young").write_bytes(b"of a run that is still at work")
    assert main(["clean", "--index", url, "--dry-run"]) == 0
    assert "would remove 5 files" in capsys.readouterr().out
    assert read_selection(first, 1.0).rows.num_rows == 2
    assert main(["clean", "--index", url, "--older-than", "7d"]) == 0
    assert "removed 5 files" in capsys.readouterr().out
    assert read_selection(open_index(url), 1.0).rows.num_rows == 2
    assert (tmp_path / "index/versions/young").exists()
    folders = [path for path in (tmp_path / "index").rglob("*") if path.is_dir()]
    assert [path for path in folders if not list(path.iterdir())] == []
    assert main(["clean", "--index", url, "--older-than", "soon"]) == 2


def test_a_reader_reads_its_version_while_others_are_published_and_cleaned(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], folder: str
) -> None:
    records = [rollout([number / 50, 1.0]) for number in range(50)]
    score(write_jsonl("a.jsonl", records), f"{folder}/index")
    mine, stop, reads = open_index(f"{folder}/index"), Event(), []

    def read_on() -> None:
        while not stop.is_set() or not reads:
            selection = read_selection(mine, 1.0)
            reads.append((selection.rows.to_pydict(), fetch_rollouts(selection.rows, selection.shards)))

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read_on)
        try:
            for alpha in (0.2, 0.3, 0.4):
                newest = open_index(mine.url)
                parameters = replace(newest.manifest.parameters, alpha=alpha)
                assert rank_index(local_engine, newest, parameters, mine.url)[1]
                assert clean(open_index(mine.url), older_than=3600) == []
        finally:
            stop.set()
        reader.result()
    assert len(reads) > 1
    assert all(read == reads[0] for read in reads)
    assert reads[0][0]["bis"] != read_selection(open_index(mine.url), 1.0).rows["bis"].to_pylist()
