"""A selection from very many rollouts is made on an engine, and is the one that is made in memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import reference
from support.handmade import Made, make_index

import bisieve
from bisieve.cli.main import main
from bisieve.errors import UsageError
from bisieve.index import writer
from bisieve.index.reader import Index, open_index
from bisieve.index.selection import select
from bisieve.local.engine import local_engine
from bisieve.pipeline import rank as pipeline
from bisieve.pipeline.rank import select_on
from bisieve.spark.engine import engine_on

ASKED: list[dict[str, Any]] = [
    {"alpha": 0.2, "threshold": 0.3},
    {"alpha": 0.2, "scope": "global", "all_negative": "last"},
    {"strategy": "random", "scope": "global", "seed": 4},
    {"strategy": "paired", "pair_share": 0.5, "ties": "spread"},
    {"strategy": "posterior", "ties": "hash", "all_negative": "drop"},
    {"alpha": "auto"},
]


@pytest.fixture
def large(score: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """An index of several files with one rollout more than are ranked in memory."""
    monkeypatch.setattr(writer, "ROWS_PER_FILE", 40)
    reference.write_random_corpus(tmp_path / "corpus", seed=5, sizes={"big": 150, "small": 7, "one": 1})
    score(tmp_path / "corpus", tmp_path / "index")
    monkeypatch.setattr(pipeline, "IN_MEMORY", 157)
    return open_index(str(tmp_path / "index"))


def assert_equal(open_engine: Any, index: Index, asked: dict[str, Any]) -> None:
    for fraction in (0.1, 0.37, 1.0):
        found, wanted = select_on(open_engine, index, fraction, asked), select(index, fraction, asked)
        assert found.rows.combine_chunks().equals(wanted.rows.combine_chunks())
        assert (found.fingerprint, found.parameters) == (wanted.fingerprint, wanted.parameters)
        assert found.is_alpha_automatic == wanted.is_alpha_automatic
        assert wanted.ties is not None
        if found.ties is not None:
            assert found.ties.numbers() == wanted.ties.numbers()
        else:  # the ties inside groups of so many rollouts are not counted
            assert asked["strategy"] == "paired"


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_it_is_the_selection_that_is_made_in_memory(asked: dict[str, Any], large: Index) -> None:
    assert_equal(local_engine, large, asked)


@pytest.mark.parametrize("asked", ASKED[1:4], ids=str)
def test_spark_makes_the_same_one(asked: dict[str, Any], spark: Any, large: Index) -> None:
    assert_equal(lambda size: engine_on(spark), large, asked)


def test_an_engine_is_opened_only_if_it_is_needed(large: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    def open_engine(size: int) -> Any:
        opened.append(size)
        return local_engine(size)

    select_on(open_engine, large, 0.1, {})
    select_on(open_engine, large, 0.1, {"alpha": 0.05})
    assert opened == []
    select_on(open_engine, large, 0.1, {"alpha": 0.2})
    assert opened == [158_000]
    monkeypatch.setattr(pipeline, "IN_MEMORY", 158)
    select_on(open_engine, large, 0.1, {"alpha": 0.2})
    assert len(opened) == 1


def test_commands_and_programs_select_on_an_engine(large: Index, tmp_path: Path) -> None:
    asked = {"strategy": "paired", "ties": "spread"}
    selection = bisieve.open_index(large.url).select("20%", engine="local", **asked)
    assert selection.table.num_rows == select(large, 0.2, asked).rows.num_rows == len(selection)
    selection.write_jsonl(str(tmp_path / "api.jsonl"))
    words = ["export", "--index", large.url, "--fraction", "20%", "--output", str(tmp_path / "command.jsonl")]
    assert main([*words, "--strategy", "paired", "--ties", "spread"]) == 0
    assert (tmp_path / "command.jsonl").read_bytes() == (tmp_path / "api.jsonl").read_bytes()


def test_a_selection_of_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = make_index(tmp_path, [Made("a", f"a-{n}", (0.0,)) for n in range(3)])
    monkeypatch.setattr(pipeline, "IN_MEMORY", 2)
    with pytest.raises(UsageError, match="a rollout with a positive step"):
        select_on(local_engine, index, 0.5, {"all_negative": "drop"})
