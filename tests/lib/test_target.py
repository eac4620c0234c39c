"""An output takes nothing away: neither shards nor the index."""

import os
from pathlib import Path

import pyarrow as pa
import pytest

from bisieve import schema
from bisieve.cli import main
from bisieve.manifest import MANIFEST, Manifest, Parameters, SourceTotals, publish
from bisieve.parts import write_part
from bisieve.pointer import read_pointer
from bisieve.shards import list_shards

SHARD = b'{"image": "a.png", "question": "?", "steps_with_score": [{"step": "one", "score": 1.0}]}\n'


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of one rollout in ``corpus/a.jsonl``; the working folder is the one that holds both."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/a.jsonl").write_bytes(SHARD)
    (tmp_path / "link").symlink_to(tmp_path / "corpus/a.jsonl")
    (shard,) = list_shards(["corpus"])
    url = str(tmp_path / "index")
    row = {
        "source": "a", "rank": 1, "rollout_id": "r", "question_id": "q", "bis": 0.05, "num_steps": 1,
        "scores": [1.0], "spans": [{"shard": shard.url, "offset": 0, "length": shard.size - 1}],
    }  # fmt: skip
    known = {"url": shard.url, "size": shard.size, "etag": shard.etag, "layout": "rollouts"}
    shards = write_part(url, "shards.parquet", pa.Table.from_pylist([known], schema.SHARDS), schema.SHARDS)
    rows = write_part(url, "rows.parquet", pa.Table.from_pylist([row], schema.INDEX), schema.INDEX)
    totals = [SourceTotals("a", 1, 1, 0, 1, 0, 1, {})]
    parameters = Parameters(0.05, "source", "file", 0)
    manifest = Manifest("f" * 64, parameters, ["corpus"], shards, 1, shard.size, totals, [rows], [], {}, {})
    publish(read_pointer(f"{url}/{MANIFEST}"), url, manifest)
    return tmp_path / "index"


def export(output: str, *more: str) -> int:
    return main(["export", "--index", "index", "--fraction", "1.0", "--output", output, *more])


@pytest.mark.parametrize(
    ("output", "format"),
    [
        ("corpus/a.jsonl", "mprm-jsonl"), ("./corpus//a.jsonl", "mprm-jsonl"), ("link", "mprm-jsonl"),
        ("corpus", "records"), (".", "records"),
        ("index/manifest.json", "mprm-jsonl"), ("index", "records"), ("index/cut", "records"),
        ("-", "mprm-jsonl"),
    ],
)  # fmt: skip
def test_what_would_be_lost_is_refused(
    output: str, format: str, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {name: os.stat(name).st_mtime_ns for name in tmp_path.rglob("*")}
    assert export(output, "--format", format) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--output" in line
    assert {name: os.stat(name).st_mtime_ns for name in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("output", ["corpus/a.jsonl", "index/manifest.json", "-"])
def test_a_comparison_takes_nothing_away_either(output: str, index: Path, tmp_path: Path) -> None:
    before = {name: os.stat(name).st_mtime_ns for name in tmp_path.rglob("*")}
    assert main(["diff", "index", "--output", output]) == 2
    assert {name: os.stat(name).st_mtime_ns for name in tmp_path.rglob("*")} == before


def test_a_file_beside_the_shards_is_written(index: Path, tmp_path: Path) -> None:
    assert export("corpus/best.txt") == 0
    assert export("cut", "--format", "records") == 0
    assert (tmp_path / "cut/a.jsonl").read_bytes() == SHARD
