"""A selection with an exclusion is the one from a corpus that does not have these rollouts."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import reference
from support.handmade import publish_rows

import bisieve
from bisieve.cli.main import main
from bisieve.errors import UsageError
from bisieve.index import writer
from bisieve.index.exclusion import exclusion_of, ids_in, ids_text, read_exclusion
from bisieve.index.reader import Index, open_index
from bisieve.index.selection import read_selection, select, selection_identity
from bisieve.local.engine import local_engine
from bisieve.pipeline import rank as pipeline
from bisieve.pipeline.rank import rank_index, select_on
from bisieve.ranking.strategies import with_overrides

ASKED: list[dict[str, Any]] = [
    {},
    {"alpha": 0.2, "threshold": 0.3, "all_negative": "drop"},
    {"strategy": "random", "scope": "global", "seed": 4},
    {"strategy": "paired", "pair_share": 0.5, "ties": "spread"},
    {"strategy": "stratified", "all_negative": "last"},
    {"alpha": "auto"},
]


@pytest.fixture
def index(score: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    monkeypatch.setattr(writer, "ROWS_PER_FILE", 40)
    reference.write_random_corpus(tmp_path / "corpus", seed=5, sizes={"big": 150, "small": 7, "one": 1})
    score(tmp_path / "corpus", tmp_path / "index")
    return open_index(str(tmp_path / "index"))


def all_rows(index: Index) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_selection(index, 1.0).rows.to_pylist()
    return rows


def some_ids(index: Index) -> list[str]:
    """A third of the ids, among them the only one of a source and those of whole ranked files."""
    ids = [row["rollout_id"] for row in all_rows(index)]
    return [row["rollout_id"] for row in all_rows(index) if row["source"] == "one"] + ids[1:80:2] + ids[60:65]


@pytest.mark.parametrize("asked", ASKED, ids=str)
@pytest.mark.parametrize("in_memory", [True, False], ids=["in memory", "on an engine"])
def test_it_is_the_selection_of_a_corpus_without_these_rollouts(
    asked: dict[str, Any], in_memory: bool, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exclusion = exclusion_of(index, some_ids(index))
    rest = [row for row in all_rows(index) if row["rollout_id"] not in exclusion.ids]
    unranked = publish_rows(str(tmp_path / "rest"), rest, [], [])
    given = {name: value for name, value in asked.items() if value != "auto"}
    parameters = with_overrides(unranked.manifest.parameters, given)
    rank_index(local_engine, unranked, parameters, str(tmp_path / "ranked"))
    expected = open_index(str(tmp_path / "ranked"))
    if not in_memory:
        monkeypatch.setattr(pipeline, "IN_MEMORY", 10)
    for fraction in (0.1, 0.37, 1.0):
        found = select_on(local_engine, index, fraction, asked, exclusion=exclusion)
        if "auto" in asked.values():
            wanted = select(expected, fraction, asked)
        else:
            wanted = read_selection(expected, fraction)
        assert found.rows.drop(["spans"]).equals(wanted.rows.drop(["spans"]).combine_chunks())
        assert found.available == wanted.available == 158 - exclusion.rollouts


def test_its_fingerprint_is_that_of_the_ids_which_the_index_has(index: Index) -> None:
    ids = some_ids(index)
    plain, one = select(index, 0.5, {}), select(index, 0.5, {}, None, exclusion_of(index, ids))
    again = select(index, 0.5, {}, None, exclusion_of(index, [*reversed(ids), "of another index"]))
    other = select(index, 0.5, {}, None, exclusion_of(index, ids[1:]))
    assert one.fingerprint == again.fingerprint
    assert len({each.fingerprint for each in (plain, one, other)}) == 3
    assert selection_identity(one, index) == {"exclude": one.left_out.digest}
    assert selection_identity(plain, index) == {}
    assert again.left_out.unknown == 1


def test_a_file_of_ids_that_leaves_out_nothing_changes_nothing(index: Index, tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("\n\n")
    exclusion = read_exclusion(index, str(tmp_path / "none.txt"))
    assert select(index, 0.5, {}, None, exclusion).fingerprint == read_selection(index, 0.5).fingerprint


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\n\n"], ids=repr)
def test_a_file_has_one_id_a_line(separator: str, index: Index, tmp_path: Path) -> None:
    ids = some_ids(index)
    (tmp_path / "ids.txt").write_bytes(separator.join([*ids, ""]).encode())
    exclusion = read_exclusion(index, str(tmp_path / "ids.txt"))
    assert exclusion == exclusion_of(index, ids)
    assert exclusion.rollouts == len(set(ids))


@pytest.mark.parametrize("rollout_id", ["[chart] 1", "{a} 2", "a\u2028b", " a ", "\u05d0 %_'\"\\\\"])
def test_any_id_that_fits_into_a_line_is_left_out(
    rollout_id: str, score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any],
    tmp_path: Path,
) -> None:  # fmt: skip
    score(write_jsonl("a.jsonl", [rollout(rollout_id=rollout_id), rollout()]), tmp_path / "index")
    (tmp_path / "ids.txt").write_text(ids_text([rollout_id]), encoding="utf-8")
    exclusion = read_exclusion(open_index(str(tmp_path / "index")), str(tmp_path / "ids.txt"))
    assert exclusion.ids == {rollout_id}


@pytest.mark.parametrize(
    "content", ['["a", "b"]\n', '[\n "a"\n]', '{"rollout_id": "a"}\n{"rollout_id": "b"}\n']
)
def test_json_is_no_file_of_ids(content: str, tmp_path: Path) -> None:
    (tmp_path / "ids.json").write_text(content)
    with pytest.raises(UsageError, match="found JSON; name another file"):
        ids_in(str(tmp_path / "ids.json"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"x\ny\n", "found none in 2 ids, such as x; correct --exclude"),
        (b"\xff\xfe", "expected text with one rollout_id a line in .*; found other bytes"),
        (None, "ids.txt"),
    ],
)
def test_a_wrong_file_is_refused(
    content: bytes | None, expected: str, index: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "ids.txt").write_bytes(content)
    words = ["--index", index.url, "--fraction", "0.5", "--exclude", str(tmp_path / "ids.txt")]
    for command in (["export", "--output", str(tmp_path / "out.jsonl")], ["report"]):
        assert main([*command, *words]) > 0
        (line,) = capsys.readouterr().err.splitlines()
        assert re.search(expected, line)
    assert not (tmp_path / "out.jsonl").exists()


def test_leaving_out_everything_is_refused(index: Index) -> None:
    every = exclusion_of(index, [row["rollout_id"] for row in all_rows(index)])
    with pytest.raises(UsageError, match="a rollout that --exclude does not leave out"):
        select(index, 0.5, {}, None, every)


def test_export_and_report_leave_the_rollouts_out(
    index: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = some_ids(index)
    (tmp_path / "ids.txt").write_text("\n".join([*ids, "unknown"]))
    asked = ["--index", index.url, "--fraction", "100%", "--exclude", str(tmp_path / "ids.txt")]
    rest = 158 - len(set(ids))
    left_out = f"--exclude leaves out {158 - rest} rollouts; ids of its file that are not in the index: 1"
    assert main(["export", *asked, "--output", str(tmp_path / "out.jsonl")]) == 0
    assert left_out in capsys.readouterr().out
    assert (tmp_path / "out.jsonl").read_bytes().count(b"\n") == rest
    assert main(["report", *asked]) == 0
    assert left_out in capsys.readouterr().out
    opened = bisieve.open_index(index.url)
    found = opened.write_html(str(tmp_path / "page.html"), "100%", exclude=str(tmp_path / "ids.txt"))
    assert found["selection"]["rollouts"] == found["corpus"]["rollouts"] == rest
    selection = opened.select("50%", exclude=str(tmp_path / "ids.txt"))
    assert not set(ids) & set(selection.table["rollout_id"].to_pylist())
    with pytest.raises(UsageError, match="selections without exclude"):
        bisieve.compare(opened.select("50%"), selection)
