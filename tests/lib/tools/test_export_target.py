"""An output takes nothing away: neither shards nor the index."""

import os
from pathlib import Path

import pytest
from support.handmade import publish_rows

from bisieve.cli.main import main
from bisieve.shards.listing import list_shards

SHARD = b'{"image": "a.png", "question": "?", "steps_with_score": [{"step": "one", "score": 1.0}]}\n'


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of one rollout in ``corpus/a.jsonl``; the working folder is the one that holds both."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/a.jsonl").write_bytes(SHARD)
    (tmp_path / "link").symlink_to(tmp_path / "corpus/a.jsonl")
    (shard,) = list_shards(["corpus"])
    row = {
        "source": "a", "rank": 1, "rollout_id": "r", "question_id": "q", "bis": 0.05, "num_steps": 1,
        "scores": [1.0], "spans": [{"shard": shard.url, "offset": 0, "length": shard.size - 1}],
    }  # fmt: skip
    publish_rows(str(tmp_path / "index"), [row], ["corpus"], [shard])
    return tmp_path / "index"


def export(output: str, *more: str) -> int:
    return main(["export", "--index", "index", "--fraction", "1.0", "--output", output, *more])


@pytest.mark.parametrize(
    ("output", "format"),
    [
        ("corpus/a.jsonl", "mprm-jsonl"), ("./corpus//a.jsonl", "mprm-jsonl"), ("link", "mprm-jsonl"),
        ("corpus", "records"), (".", "records"),
        ("index/manifest.json", "mprm-jsonl"), ("index", "records"), ("index/cut", "records"),
        ("corpus", "internvl"), ("index/cut", "internvl"), (".", "hf-dataset"), ("corpus/a.jsonl", "trl"),
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
    assert main(["diff", "--index", "index", "--other-fraction", "50%", "--output", output]) == 2
    assert {name: os.stat(name).st_mtime_ns for name in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("format", ["mprm-jsonl", "trl", "ms-swift", "sharegpt"])
@pytest.mark.parametrize("name", ["best.jsonl.gz", "best.JSONL.ZST", "best.parquet"])
def test_a_name_of_what_is_not_written_is_refused(
    name: str, format: str, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(name, "--format", format) == 2
    (line,) = capsys.readouterr().err.splitlines()
    wrong = Path(name).suffix.lower()
    assert f"a name for plain JSON lines as --output; found {name}; leave off {wrong}" in line
    assert not (tmp_path / name).exists()


def test_a_file_beside_the_shards_is_written(index: Path, tmp_path: Path) -> None:
    assert export("corpus/best.txt") == 0
    assert export("cut", "--format", "records") == 0
    assert (tmp_path / "cut/a.jsonl").read_bytes() == SHARD
