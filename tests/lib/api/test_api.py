"""The public API, used as in a program or a notebook."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.piped_lines import joined

import bisieve
from bisieve.cli.main import main
from bisieve.errors import UsageError


@pytest.fixture
def shard(write_jsonl: Callable[..., Path], rollout: Callable[..., Any]) -> str:
    mixed = [rollout((1.0, 0.0), question=f"Mixed {n}?") for n in range(4)]
    good = [rollout((1.0, 1.0), question=f"Good {n}?") for n in range(12)]
    return str(write_jsonl("a.jsonl", [*good, *mixed, rollout(image="")]))


@pytest.fixture
def index(shard: str, tmp_path: Path) -> bisieve.Index:
    return bisieve.score(shard, str(tmp_path / "index"))


def test_the_package_is_imported_without_arrow_and_ray_train_without_torch() -> None:
    heavy = "'numpy', 'pyarrow', 'torch', 'ray'"
    code = f"import sys, bisieve, ray_train; print([name for name in ({heavy}) if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_every_public_name_is_there_and_has_a_docstring() -> None:
    for name in bisieve.__all__:
        assert getattr(bisieve, name) is not None
        assert name == "__version__" or getattr(bisieve, name).__doc__
    assert sorted(dir(bisieve)) == sorted(bisieve.__all__)
    with pytest.raises(AttributeError, match="no attribute 'scoer'"):
        bisieve.scoer  # noqa: B018


def test_a_corpus_is_scored_once_and_opened_again(shard: str, index: bisieve.Index) -> None:
    assert (len(index), index.written, index.parameters.alpha) == (16, True, 0.05)
    assert repr(index).endswith(f"version {index.fingerprint[:16]}, 16 rollouts of 1 source>")
    again = bisieve.score([shard], index.name)
    assert (again.written, again.fingerprint) == (False, index.fingerprint)
    opened = bisieve.open_index(index.name, index.fingerprint[:8])
    assert opened.written is None
    summary, shown = again.report().replace("up to date, nothing written; ", ""), opened.report().splitlines()
    assert [line for line in shown if line in summary.splitlines()] == summary.splitlines()
    assert joined(opened.report()).splitlines()[-2].startswith(("best 25%: ", "AUC of position"))
    assert opened.sources["mixed"].to_pylist() == [4]
    assert opened.rejects()["reason"].to_pylist() == ["no_image"]
    assert [version.current for version in opened.versions()] == [True]


@pytest.mark.parametrize(
    ("ranking", "message"),
    [
        ({"alpha": -1.0}, "an --alpha from 0 on; found -1"),
        ({"all_negative": "never"}, "one of keep, last, drop as all_negative; found never"),
        ({"strategy": "mixd"}, r"found mixd; did you mean mixed\?"),
        ({"pair_share": 0.5}, "--pair-share with --strategy paired; found bis"),
        ({"strategy": "random", "ties": "spread"}, "no --ties for an index of strategy random"),
    ],
    ids=str,
)
def test_a_ranking_that_cannot_be_is_refused_before_anything_is_written(
    ranking: dict[str, Any], message: str, shard: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        bisieve.score([shard], str(tmp_path / "never"), **ranking)
    assert not (tmp_path / "never").exists()


def test_a_selection_is_a_table_and_text_and_files(index: bisieve.Index, tmp_path: Path) -> None:
    selection = index.select("25%")
    assert (len(selection), selection.available, selection.delivered) == (4, 16, 0.25)
    assert selection.table["positive_fraction"].to_pylist() == [0.5] * 4
    assert list(selection.to_pandas()["rank"]) == [1, 2, 3, 4]
    assert [rollout.question for rollout in selection.rollouts()] == [f"Mixed {n}?" for n in range(4)]
    assert selection.write_jsonl(str(tmp_path / "best.jsonl")) == 4
    assert len((tmp_path / "best.jsonl").read_text().splitlines()) == 4
    assert selection.write_records(str(tmp_path / "cut")) == 4
    assert len(bisieve.score(str(tmp_path / "cut"), str(tmp_path / "cut-index"))) == 4
    half = index.select(0.5)
    assert (half.ties.tied, half.ties.left_out) == (4, 8)
    assert half.notes == [
        "best 50%: 4 of 8 are ties at BIS 0.0500, chosen from 12 by file order; see --ties spread"
    ]
    assert selection.notes == []
    with pytest.raises(bisieve.BisieveError, match="for 10% give"):
        index.select(10)
    with pytest.raises(bisieve.BisieveError, match="outside the index"):
        selection.write_jsonl(f"{index.url}/best.jsonl")


def test_indexes_are_ranked_again_compared_and_checked(index: bisieve.Index, tmp_path: Path) -> None:
    shuffled = bisieve.rerank(index, str(tmp_path / "random"), strategy="random", seed=1)
    assert shuffled.parameters.strategy == "random"
    changes = str(tmp_path / "changes.parquet")
    found = bisieve.compare(index.select(0.25), shuffled.select(0.25), changes)
    (row,) = found.table.to_pylist()
    assert (row["a"], row["b"], row["kept"] + row["left"]) == (4, 4, 4)
    assert sum(found.reasons.values()) == row["left"] + row["entered"]
    assert Path(changes).exists()
    assert repr(found) == f"<Comparison: {row['kept']} rollout{'s' * (row['kept'] != 1)} kept, " + (
        f"{row['left']} left, {row['entered']} entered>"
    )
    check = bisieve.check_gate(index)
    assert (check.passed, repr(check)) == (False, f"<GateCheck: version {index.fingerprint[:16]} failed>")
    with pytest.raises(bisieve.BisieveError, match=r"at most 1% rejected records"):
        check.require()
    assert bisieve.check_gate(index, limits=bisieve.Limits(reject_rate=0.5)).passed


def test_scores_of_rollouts_in_memory_are_those_of_the_formula() -> None:
    rollouts = [[1.0, 0.0], [0.5, 0.5, 1.0], [0.0]]
    table = bisieve.score_table(rollouts, alpha=0.1)
    assert table["bis"].to_pylist() == [
        bisieve.balanced_information_score(one, alpha=0.1) for one in rollouts
    ]
    with pytest.raises(ValueError, match="at least one step"):
        bisieve.score_table([[]])


def test_a_notebook_shows_tables_with_their_text_escaped(
    write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    shard = write_jsonl("<b>.jsonl", [rollout()] * 3)
    index = bisieve.score(str(shard), str(tmp_path / "index"))
    for shown in (index._repr_html_(), index.select(1.0)._repr_html_()):
        assert "<td>&lt;b&gt;</td>" in shown
        assert "<b>" not in shown
    assert "<table>" in bisieve.compare(index.select(1.0), index.select(0.4))._repr_html_()


def test_the_commands_print_what_the_api_returns(
    index: bisieve.Index, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "--index", index.name]) == 0
    assert capsys.readouterr().out == bisieve.open_index(index.name).report() + "\n"
