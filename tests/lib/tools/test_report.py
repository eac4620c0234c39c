"""The table that scoring, ranking and ``bisieve report`` print."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from support import reference
from support.handmade import DEFAULTS, Made, make_index

from bisieve.cli.main import main
from bisieve.index import writer
from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection
from bisieve.tools.report import SHOWN, score_report

FRACTIONS = (0.05, 0.10, 0.25, 0.50)


@pytest.mark.parametrize("ranked", ["scored", "ranked anew"])
@pytest.mark.parametrize("scope", ["source", "global"])
def test_the_cutoff_scores_are_those_of_the_cuts(
    score: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scope: str,
    ranked: str,
) -> None:
    reference.write_random_corpus(tmp_path / "corpus", seed=5, sizes={"big": 250, "small": 7, "one": 1})
    monkeypatch.setattr(writer, "ROWS_PER_FILE", 60)
    score(tmp_path / "corpus", tmp_path / "index", scope=scope if ranked == "scored" else "source")
    if ranked == "ranked anew":
        ask = ["rank", "--index", str(tmp_path / "index"), "--output", str(tmp_path / "index")]
        assert main([*ask, "--scope", scope, "--alpha", "0.2"]) == 0
    index = open_index(str(tmp_path / "index"))
    over_all = [asdict(score) for score in index.manifest.cutoff_scores]
    by_source = [(row["source"], row["cutoff_scores"]) for row in index.sources.to_pylist()]
    told = {
        (source, score["fraction"]): (score["rollouts"], score["bis"])
        for source, scores in [(None, over_all), *by_source]
        for score in scores
    }
    expected = {}
    for fraction in FRACTIONS:
        rows = read_selection(index, fraction).rows.to_pylist()
        groups: dict[str | None, list[Any]] = {}
        for row in rows:
            groups.setdefault(row["source"] if scope == "source" else None, []).append(row)
        for source, members in groups.items():
            last = max(members, key=lambda row: row["rank"])
            expected[source, fraction] = len(members), last["bis"]
    assert told == expected


@pytest.mark.parametrize(("strategy", "ties"), [("bis", "6"), ("paired", "-"), ("stratified", "-")])
def test_a_number_of_ties_is_shown_where_the_keys_tell_it(strategy: str, ties: str, tmp_path: Path) -> None:
    made = [Made("a", f"a-{n}", (1.0,)) for n in range(6)]
    index = make_index(tmp_path, made, replace(DEFAULTS, strategy=strategy))
    (titles, row, *_) = score_report(index, "index").splitlines()
    at = row.replace("all +", "all+").split()
    assert at[titles.replace("all ", "all").split().index("ties")] == ties


def test_report_shows_what_scoring_showed(
    score: Callable[..., Any],
    write_jsonl: Callable[..., Path],
    rollout: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scores = [[1.0, 0.0], [1.0, 0.5], [1.0], [0.0]] * 5
    write_jsonl("corpus/a.jsonl", [*(rollout(s, question=f"{n}") for n, s in enumerate(scores)), b"{}"])
    write_jsonl("corpus/b.jsonl", [rollout([0.5])])
    index = str(tmp_path / "index")
    score(tmp_path / "corpus", index)
    assert main(["report", "--index", index]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[1:3]] == [
        ["a", "20", "30", "25.0%", "50.0%", "25.0%", "10", "1", "0.3000", "0.3000", "0.3000", "0.0500"],
        ["b", "1", "1", "0.0%", "100.0%", "0.0%", "1", "0", "0.0250", "0.0250", "0.0250", "0.0250"],
    ]
    assert lines[-1].startswith(f"index {index}: 21 rollouts of 2 shards, fingerprint ")

    first = open_index(index).fingerprint[:8]
    assert main(["rank", "--index", index, "--output", index, "--scope", "global"]) == 0
    ranked = capsys.readouterr().out.splitlines()
    assert ranked[3].split()[:2] == ["all", "21"]
    assert ranked[3].split()[-4:] == ["0.3000", "0.3000", "0.3000", "0.0500"]
    assert ranked[1].split()[-4:] == ["-"] * 4
    assert main(["report", "--index", index, "--version", first]) == 0
    assert capsys.readouterr().out.splitlines() == lines
    assert main(["rank", "--index", index, "--output", f"{index}-random", "--strategy", "random"]) == 0
    head, a, *_ = capsys.readouterr().out.splitlines()
    assert head.split()[-2:] == ["ties", "rejected"], "the BIS of a random rollout tells nothing"
    assert a.split()[-1] == "1"


def test_of_very_many_sources_a_run_shows_the_largest_and_report_shows_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {f"s{number:02}": 1 + number % 5 for number in range(SHOWN + 5)}
    made = [Made(name, f"{name}-{n}", (1.0,)) for name, size in sizes.items() for n in range(size)]
    index = make_index(tmp_path, made)
    lines = score_report(index, "URL", written=True).splitlines()
    largest = sorted(sizes, key=lambda name: (-sizes[name], name))
    assert [line.split()[0] for line in lines[1 : SHOWN + 1]] == largest[:SHOWN]
    assert lines[SHOWN + 1] == "and 5 smaller sources: bisieve report --index URL shows all"
    assert main(["report", "--index", index.url]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown[1 : len(sizes) + 1]] == sorted(sizes)
    assert lines[-1].startswith("index URL: written; ")
