"""An index ranked anew equals the index that scoring with the same options gives."""

import random
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from support import reference
from support.handmade import Made, make_index
from support.index_files import contents

from bisieve.cli.main import main
from bisieve.errors import UsageError
from bisieve.index import writer
from bisieve.index.reader import Index, open_index
from bisieve.index.selection import read_selection
from bisieve.local.engine import local_engine
from bisieve.pipeline.rank import rank_index
from bisieve.ranking.strategies import with_overrides
from bisieve.spark.engine import engine_on

SIZES = {"big": 250, "small": 7, "one": 1}
OPTIONS: list[dict[str, Any]] = [
    {"alpha": 0.2, "threshold": 0.3},
    {"strategy": "mixed", "seed": 3},
    {"strategy": "low_mc", "ties": "hash"},
    {"strategy": "random", "scope": "global"},
    {"strategy": "reliable", "ties": "spread"},
    {"strategy": "all"},
    {"strategy": "paired", "pair_share": 0.5, "ties": "spread"},
    {"strategy": "paired", "scope": "global", "all_negative": "last"},
    {"strategy": "stratified", "scope": "global", "ties": "hash"},
    {"strategy": "posterior", "threshold": 0.1, "all_negative": "drop"},
    {"strategy": "difficulty", "ties": "spread", "seed": 5},
]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    reference.write_random_corpus(tmp_path / "corpus", seed=8, sizes=SIZES)
    (tmp_path / "corpus/small.jsonl").open("a").write("broken\n")
    return tmp_path / "corpus"


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_index_ranked_again_is_the_one_that_scoring_gives(
    spark: Any,
    score: Callable[..., Any],
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
) -> None:
    monkeypatch.setattr(writer, "ROWS_PER_FILE", 100)
    score(corpus, tmp_path / "old")
    score(corpus, tmp_path / "scored", **options)
    old = open_index(str(tmp_path / "old"))
    parameters = replace(old.manifest.parameters, **options)
    for place, engine in {"local": local_engine, "on Spark": lambda size: engine_on(spark)}.items():
        assert rank_index(engine, old, parameters, str(tmp_path / place))[1]
        assert contents(tmp_path / place) == contents(tmp_path / "scored")
        assert not rank_index(engine, old, parameters, str(tmp_path / place))[1]


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
    rows = read_selection(open_index(str(tmp_path / "new")), 1.0).rows.sort_by("rank").to_pylist()
    means = [sum(row["scores"]) / len(row["scores"]) for row in rows]
    assert means == sorted(means)
    assert main([*ask, "--strategy", "random", "--ties", "hash"]) == 2


def test_the_command_ranks_on_spark_where_that_is_asked_for(
    spark: Any, score: Callable[..., Any], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score(corpus, tmp_path / "old")
    ask = ["rank", "--index", str(tmp_path / "old"), "--alpha", "0.2", "--output"]
    assert main([*ask, str(tmp_path / "local")]) == 0
    monkeypatch.setattr("bisieve.spark.engine.spark_context", lambda master, conf: nullcontext(spark))
    jobs = len(spark.statusTracker().getJobIdsForGroup("bisieve-write"))
    assert main([*ask, str(tmp_path / "on spark"), "--engine", "spark"]) == 0
    assert len(spark.statusTracker().getJobIdsForGroup("bisieve-write")) == jobs + 1
    assert contents(tmp_path / "local") == contents(tmp_path / "on spark")


def test_strategies_order_as_they_say(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    shard = write_jsonl("a.jsonl", [rollout(s) for s in ([1.0, 1.0], [0.5, 0.0], [0.0, 0.0], [1.0, 0.0])])

    def order(**options: Any) -> list[list[float]]:
        name = "-".join(map(str, options.values()))
        index, _ = score(shard, tmp_path / name, **options)
        return pq.read_table(tmp_path / name / index.files[0].path)["scores"].to_pylist()

    assert order(strategy="all") == [[1.0, 1.0], [0.5, 0.0], [0.0, 0.0], [1.0, 0.0]]
    assert order(strategy="low_mc")[:2] == [[0.0, 0.0], [0.5, 0.0]]
    assert order(strategy="reliable") == [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.5, 0.0]]
    assert {tuple(row) for row in order(strategy="mixed", seed=1)[:2]} == {(0.5, 0.0), (1.0, 0.0)}
    assert order(strategy="random", seed=1) != order(strategy="random", seed=2)
    assert order(threshold=0.5)[0] == [1.0, 0.0]


@pytest.fixture
def pure_and_mixed(tmp_path: Path) -> Index:
    """200 rollouts of a source with few mixed ones, 40 of a source with many."""
    rng = random.Random(1)
    grid = [rank / 16 for rank in range(17)]

    def scores(mixed: float) -> tuple[float, ...]:
        steps = rng.randint(2, 6)
        if rng.random() >= mixed:
            return tuple(rng.choice(grid[1:]) for _ in range(steps)) if rng.random() < 0.9 else (0.0,) * steps
        return (*(rng.choice(grid[1:]) for _ in range(steps - 1)), 0.0)

    made = [Made("few", f"f{n}", scores(0.1)) for n in range(200)]
    made += [Made("many", f"m{n}", scores(0.8)) for n in range(40)]
    return make_index(tmp_path / "made", made)


def quarter(index: Index, output: Path, **asked: Any) -> dict[str, list[dict[str, Any]]]:
    """The best 25 % of each source when ``index`` is ranked as ``asked``."""
    rank_index(local_engine, index, with_overrides(index.manifest.parameters, asked), str(output))
    rows = read_selection(open_index(str(output)), 0.25).rows.to_pylist()
    return {source: [row for row in rows if row["source"] == source] for source in ("few", "many")}


def rollouts_of(index: Index) -> dict[str, list[dict[str, Any]]]:
    rows = read_selection(index, 1.0).rows.to_pylist()
    return {source: [row for row in rows if row["source"] == source] for source in ("few", "many")}


def is_mixed(row: dict[str, Any]) -> bool:
    return any(score > 0 for score in row["scores"]) and not all(score > 0 for score in row["scores"])


def test_low_mc_takes_the_quarter_of_lowest_mean_score(pure_and_mixed: Index, tmp_path: Path) -> None:
    def mean(row: dict[str, Any]) -> float:
        return float(np.mean(row["scores"]))

    for source, rows in quarter(pure_and_mixed, tmp_path / "out", strategy="low_mc").items():
        lowest = sorted(map(mean, rollouts_of(pure_and_mixed)[source]))[: len(rows)]
        assert sorted(map(mean, rows)) == pytest.approx(lowest)


def test_reliable_takes_the_quarter_of_highest_reliability(pure_and_mixed: Index, tmp_path: Path) -> None:
    def reliability(row: dict[str, Any]) -> float:
        positive = [score for score in row["scores"] if score > 0]
        return float(np.mean(positive)) if positive else 1.0

    for source, rows in quarter(pure_and_mixed, tmp_path / "out", strategy="reliable").items():
        highest = sorted(map(reliability, rollouts_of(pure_and_mixed)[source]))[-len(rows) :]
        assert sorted(map(reliability, rows)) == pytest.approx(highest)


def test_mixed_takes_mixed_rollouts_first_and_fills_up_at_random(
    pure_and_mixed: Index, tmp_path: Path
) -> None:
    whole = {
        source: {row["rollout_id"] for row in rows if is_mixed(row)}
        for source, rows in rollouts_of(pure_and_mixed).items()
    }
    cuts = [quarter(pure_and_mixed, tmp_path / f"{seed}", strategy="mixed", seed=seed) for seed in (1, 2)]
    filled = []
    for selection in cuts:
        few = {row["rollout_id"] for row in selection["few"]}
        assert whole["few"] < few  # fewer than a quarter: all of them, and others
        filled.append(few - whole["few"])
        assert {row["rollout_id"] for row in selection["many"]} < whole["many"]
    assert filled[0] != filled[1]
    places = sorted(int(name[1:]) for name in filled[0])
    assert 60 < sum(places) / len(places) < 140  # not the first ones of the file


@pytest.mark.parametrize("ties", ["file", "hash", "spread"])
def test_random_is_a_seeded_sample_whatever_the_ties_were(
    pure_and_mixed: Index, tmp_path: Path, ties: str
) -> None:
    rank_index(
        local_engine, pure_and_mixed, replace(pure_and_mixed.manifest.parameters, ties=ties),
        str(tmp_path / "first"),
    )  # fmt: skip
    first = open_index(str(tmp_path / "first"))
    cuts = [
        [row["rollout_id"] for row in quarter(first, tmp_path / f"{n}", strategy="random", seed=seed)["few"]]
        for n, seed in enumerate((1, 1, 2))
    ]
    assert cuts[0] == cuts[1] != cuts[2]
    places = [int(name[1:]) for name in cuts[0]]
    assert places != sorted(places)
    assert 60 < sum(places) / len(places) < 140
    assert len(set(cuts[0]) & set(cuts[2])) < 30  # 50 of 200 each: 12 by chance


def test_all_is_the_corpus_in_its_order(pure_and_mixed: Index, tmp_path: Path) -> None:
    rows = quarter(pure_and_mixed, tmp_path / "out", strategy="all")["few"]
    assert [row["rollout_id"] for row in rows] == [f"f{n}" for n in range(50)]


def test_an_index_in_random_order_has_no_other_ties(pure_and_mixed: Index) -> None:
    shuffled = with_overrides(pure_and_mixed.manifest.parameters, {"strategy": "random"})
    with pytest.raises(UsageError, match="strategy random; found hash"):
        with_overrides(shuffled, {"ties": "hash"})
    assert with_overrides(shuffled, {"ties": "hash", "strategy": "bis"}).ties == "hash"
