"""``--json`` prints one document with what the text shows; ``--quiet`` leaves out the progress."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from support.handmade import Made, make_index

from bisieve.cli.main import main


@pytest.fixture
def index(tmp_path: Path) -> str:
    made = [Made("a", f"a-{n}", (1.0, 0.0) if n % 4 == 0 else (1.0,)) for n in range(40)]
    return str(make_index(tmp_path, made).url)


@pytest.fixture
def document(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str) -> Any:
        assert main([*words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_report_and_rank(index: str, document: Any, tmp_path: Path) -> None:
    found = document("report", "--index", index)
    assert (found["index"], found["rollouts"], found["parameters"]["alpha"]) == (index, 40, 0.05)
    assert [(row["source"], row["mixed"]) for row in found["sources"]] == [("a", 10)]
    quarter = next(cut for cut in found["cuts"] if cut["fraction"] == 0.25)
    assert (quarter["selected"], quarter["tied"], quarter["least"]) == (10, 0, None)
    ranked = document(
        "rank", "--index", index, "--output", str(tmp_path / "ranked"), "--alpha", "0.2", "--quiet"
    )
    assert (ranked["written"], ranked["parameters"]["alpha"]) == (True, 0.2)


def test_score_says_only_its_document(
    write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shard, index = write_jsonl("a.jsonl", [rollout()] * 3), str(tmp_path / "index")
    assert main(["score", "--input", str(shard), "--index", index, "--json", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    found = json.loads(captured.out)
    assert (found["written"], found["rollouts"]) == (True, 3)
    assert main(["score", "--input", "/none", "--index", index, "--quiet"]) == 1
    assert capsys.readouterr().err.startswith("bisieve: error: expected ")


def test_versions_clean_diff_and_gate(index: str, document: Any) -> None:
    (version,) = document("versions", "--index", index)
    assert (version["current"], version["rollouts"]) == (True, 40)
    assert document("clean", "--index", index, "--dry-run") == {"removed": False, "files": []}
    diff = document("diff", "--index", index, "--fraction", "10%", "--other-fraction", "25%")
    assert diff["sources"] == [{"source": "a", "a": 4, "b": 10, "kept": 4, "left": 0, "entered": 6}]
    gate = document("gate", "--index", index)
    assert (gate["passed"], gate["failures"], gate["version"]) == (True, [], version["version"][:16])


def test_a_gate_that_fails_says_so_in_its_document_and_its_code(
    write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shard, index = write_jsonl("a.jsonl", [rollout(), rollout(image="")]), str(tmp_path / "index")
    assert main(["score", "--input", str(shard), "--index", index]) == 0
    capsys.readouterr()
    assert main(["gate", "--index", index, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["passed"]
    assert [failure["expected"] for failure in found["failures"]] == ["at most 1% rejected records"]
    assert main(["gate", "--index", index]) == 1
    assert "FAILED: index " in capsys.readouterr().out


def test_the_path_of_an_index_is_what_duckdb_reads(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["path", "--index", index]) == 0
    path = capsys.readouterr().out.strip()
    assert duckdb.sql(f"SELECT count(*), max(bis) FROM '{path}'").fetchall() == [(40, 0.3)]
