"""The local engine writes what Spark writes, to the byte, and needs nothing of it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forms
import pytest
import reference

from bisieve import parts, shards
from bisieve.scan import chunks, gather

SIZES = {"big": 300, "a-small": 7, "ä": 40}
TIES_AND_SCOPES = [("file", "source"), ("hash", "global"), ("spread", "source"), ("spread", "global")]


def contents(index: Path) -> dict[str, bytes]:
    return {str(path.relative_to(index)): path.read_bytes() for path in index.rglob("*") if path.is_file()}


@pytest.fixture
def many_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tasks, chunks, files and row groups of a corpus that is small."""
    for module, name, value in (
        (parts, "ROWS_PER_FILE", 100), (parts, "ROWS_PER_GROUP", 30),
        (shards, "SMALLEST_TASK", 40_000), (shards, "OPENING", 0),
        (chunks, "CHUNK_ROWS", 64), (gather, "HELD_BYTES", 10_000),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def same(
    score: Callable[..., Any], score_local: Callable[..., Any], tmp_path: Path
) -> Callable[..., dict[str, bytes]]:
    """Score with both engines, and return the files that both have written."""

    def run(corpus: Path, name: str = "index", **options: Any) -> dict[str, bytes]:
        score(corpus, tmp_path / "spark" / name, **options)
        score_local(corpus, tmp_path / "local" / name, **options)
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
    score: Callable[..., Any],
    score_local: Callable[..., Any],
    many_small_parts: None,
    tmp_path: Path,
) -> None:
    reference.write_random_corpus(tmp_path / "rollouts", seed=6, sizes=SIZES)
    corpus = tmp_path / "corpus"
    reference.write_as_steps(tmp_path / "rollouts", corpus, seed=6)
    shutil.copy(tmp_path / "rollouts/big.jsonl", corpus / "whole.jsonl")
    score(corpus, tmp_path / "index")
    first, *_ = sorted(corpus.iterdir())
    lines = first.read_bytes().splitlines(keepends=True)
    first.write_bytes(b"".join(lines[3:]))  # some rollouts lose a step, others go
    told: dict[str, Any] = {}
    shutil.copytree(tmp_path / "index", tmp_path / "on spark")
    score(corpus, tmp_path / "on spark")
    score_local(corpus, tmp_path / "index", tell=lambda event, text="", **more: told.update({event: more}))
    assert told["listed"]["to_scan"] == 1
    assert told["scanned"]["kept"] > 300
    assert contents(tmp_path / "index") == contents(tmp_path / "on spark")
    assert not score_local(corpus, tmp_path / "index")[1]
    assert not score(corpus, tmp_path / "index")[1]
