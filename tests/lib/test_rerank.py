"""An index ranked anew equals the index that scoring with the same options gives."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import reference

from bisieve import parts
from bisieve.cli import main
from bisieve.cut import read_cut
from bisieve.index import open_index
from bisieve.rerank import publish_ranked, rank_in_memory
from bisieve.spark.rerank import rank_on_spark

SIZES = {"big": 250, "small": 7, "one": 1}
OPTIONS: list[dict[str, Any]] = [
    {"alpha": 0.2, "threshold": 0.3},
    {"strategy": "mixed", "seed": 3},
    {"strategy": "low_mc", "ties": "hash"},
    {"strategy": "random", "scope": "global"},
    {"strategy": "reliable", "ties": "spread"},
    {"strategy": "all"},
]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    reference.write_random_corpus(tmp_path / "corpus", seed=8, sizes=SIZES)
    (tmp_path / "corpus/small.jsonl").open("a").write("broken\n")
    return tmp_path / "corpus"


@pytest.fixture(params=["in memory", "on Spark"])
def rank(request: pytest.FixtureRequest) -> Callable[..., Any]:
    if request.param == "in memory":
        return rank_in_memory
    return partial(rank_on_spark, request.getfixturevalue("spark"))


def contents(index: Path) -> dict[str, bytes]:
    return {str(path.relative_to(index)): path.read_bytes() for path in index.rglob("*") if path.is_file()}


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_index_ranked_anew_is_the_one_that_scoring_gives(
    score: Callable[..., Any],
    rank: Callable[..., Any],
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
) -> None:
    monkeypatch.setattr(parts, "ROWS_PER_FILE", 100)
    score(corpus, tmp_path / "old")
    score(corpus, tmp_path / "scored", **options)
    old = open_index(str(tmp_path / "old"))
    parameters = replace(old.manifest.parameters, **options)
    assert publish_ranked(old, parameters, str(tmp_path / "ranked"), rank)[1]
    assert contents(tmp_path / "ranked") == contents(tmp_path / "scored")
    assert not publish_ranked(old, parameters, str(tmp_path / "ranked"), rank)[1]


def test_the_command_needs_no_shards_and_keeps_what_is_not_asked_for(
    score: Callable[..., Any], corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score(corpus, tmp_path / "old", alpha=0.2, scope="global")
    corpus.rename(tmp_path / "away")
    ask = ["rank", "--index", str(tmp_path / "old"), "--output", str(tmp_path / "new")]
    assert main([*ask, "--strategy", "low_mc"]) == 0
    assert "258 rollouts" in capsys.readouterr().out
    parameters = open_index(str(tmp_path / "new")).manifest.parameters
    assert (parameters.alpha, parameters.scope, parameters.strategy) == (0.2, "global", "low_mc")
    rows = read_cut(open_index(str(tmp_path / "new")), 1.0).rows.sort_by("rank").to_pylist()
    means = [sum(row["scores"]) / len(row["scores"]) for row in rows]
    assert means == sorted(means)
    assert main([*ask, "--strategy", "random", "--ties", "hash"]) == 2


def test_strategies_order_as_they_say(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    shard = write_jsonl("a.jsonl", [rollout(s) for s in ([1.0, 1.0], [0.5, 0.0], [0.0, 0.0], [1.0, 0.0])])

    def order(**options: Any) -> list[list[float]]:
        name = "-".join(map(str, options.values()))
        manifest, _ = score(shard, tmp_path / name, **options)
        return pq.read_table(tmp_path / name / manifest.files[0].path)["scores"].to_pylist()

    assert order(strategy="all") == [[1.0, 1.0], [0.5, 0.0], [0.0, 0.0], [1.0, 0.0]]
    assert order(strategy="low_mc")[:2] == [[0.0, 0.0], [0.5, 0.0]]
    assert order(strategy="reliable") == [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.5, 0.0]]
    assert {tuple(row) for row in order(strategy="mixed", seed=1)[:2]} == {(0.5, 0.0), (1.0, 0.0)}
    assert order(strategy="random", seed=1) != order(strategy="random", seed=2)
    assert order(threshold=0.5)[0] == [1.0, 0.0]
