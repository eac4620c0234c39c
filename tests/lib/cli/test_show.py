"""``bisieve show``: a rollout in the terminal, with what one asks about it."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.reported import ATTACK, make_reported

import bisieve
from bisieve import console
from bisieve.cli import show
from bisieve.cli.main import main


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, score: Callable[..., Any]) -> tuple[str, str]:
    return make_reported(tmp_path_factory.mktemp("corpus"), score)


@pytest.fixture(scope="module")
def rows(made: tuple[str, str]) -> list[dict[str, Any]]:
    """The rows whose id no other has, by (source, rank)."""
    found: list[dict[str, Any]] = bisieve.open_index(made[0]).select(1.0).table.to_pylist()
    times = Counter(row["rollout_id"] for row in found)
    return [row for row in found if times[row["rollout_id"]] == 1]


def shown(made: tuple[str, str], capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main(["show", *words, "--index", made[0], "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_text_has_place_scores_steps_and_the_others_of_the_question(
    made: tuple[str, str], rows: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    row = rows[0]
    assert main(["show", row["rollout_id"], "--index", made[0]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{row['rollout_id']}  adding, rank {row['rank']} of 40"
    assert lines[1].startswith(f"kept: rank {row['rank']}, of source adding the best 10 are kept; ")
    assert f"BIS {row['bis']:.4f}" in lines[2]
    assert f"  1 15/16  Step 0: {ATTACK}" in lines
    (head,) = [place for place, line in enumerate(lines) if line.startswith("others of the question")]
    assert len(lines[head + 1 :]) == 3 + 1  # and the note on the images
    assert all(line.endswith("/16 …") for line in lines[head + 1 : -1])  # five of the six steps
    assert max(map(len, lines[head:-1])) <= 100  # ids are not broken on a terminal


def test_json_has_the_row_the_text_and_the_others_with_their_ranks(
    made: tuple[str, str], rows: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    row = rows[-1]
    found = shown(made, capsys, row["rollout_id"])
    assert (found["rank"], found["bis"], found["kept"]) == (row["rank"], row["bis"], False)
    assert found["question"].startswith("reading ")
    assert len(found["steps"]) == len(found["scores"]) == 6
    whole = bisieve.open_index(made[0]).select(1.0).table.to_pylist()
    assert [(each["source"], each["rank"]) for each in found["others"]] == [
        (each["source"], each["rank"])
        for each in whole
        if each["question_id"] == row["question_id"] and each["rank"] != row["rank"]
    ]
    assert found["notes"] == ["the images: name their root with --image-root"]


def test_another_selection_has_another_place(
    made: tuple[str, str], rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--fraction", "50%", "--strategy", "random"]
    places = [shown(made, capsys, row["rollout_id"], *words)["rank"] for row in rows[:5]]
    asked = bisieve.open_index(made[0]).select(1.0, strategy="random").table.to_pylist()
    rank_of = {row["rollout_id"]: row["rank"] for row in asked}
    assert places == [rank_of[row["rollout_id"]] for row in rows[:5]]
    (tmp_path / "ids.txt").write_text(rows[0]["rollout_id"])
    excluded = ["--exclude", str(tmp_path / "ids.txt")]
    found = shown(made, capsys, rows[0]["rollout_id"], *excluded)
    assert (found["kept"], found["why"]) == (False, "left out by --exclude; its rank is that in the index")
    rest = bisieve.open_index(made[0]).select(1.0, exclude=excluded[1]).table.to_pylist()
    asked = bisieve.open_index(made[0]).select(1.0, exclude=excluded[1], strategy="random").table.to_pylist()
    others = shown(made, capsys, rows[0]["rollout_id"], *excluded, *words)["others"]
    assert [(each["source"], each["rank"]) for each in others] == [
        (each["source"], each["rank"]) for each in asked if each["question_id"] == rows[0]["question_id"]
    ]
    expected = next(row["rank"] for row in rest if row["rollout_id"] == rows[1]["rollout_id"])
    assert shown(made, capsys, rows[1]["rollout_id"], *excluded)["rank"] == expected == rows[1]["rank"] - 1


def test_of_several_rollouts_with_an_id_the_first_is_shown(
    made: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    ids = bisieve.open_index(made[0]).select(1.0).table["rollout_id"].to_pylist()
    (twice, times), *_ = Counter(ids).most_common(1)
    found = shown(made, capsys, twice)
    assert found["rank"] == ids.index(twice) + 1
    assert found["notes"][0].startswith(f"{times} rollouts have this id, at adding {found['rank']}, adding ")


def test_a_mistyped_id_gets_one_line(
    made: tuple[str, str], rows: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = f"{rows[0]['rollout_id'][:6]}x"
    for words, expected in (
        ([wrong], f"found {wrong}; did you mean {rows[0]['rollout_id'][:6]}"),
        (["?"], "bisieve explore finds rollouts by their text"),
        ([rows[0]["rollout_id"], "--source", "reading"], "of source reading of "),
        ([rows[0]["rollout_id"], "--source", "reading"], "; it is in adding"),
        (["\udcff"], "expected an id and a source in UTF-8; found '\\udcff'; correct it"),
        ([rows[0]["rollout_id"], "--source", "\udcff"], "expected an id and a source in UTF-8"),
    ):
        assert main(["show", *words, "--index", made[0]]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert expected in line


def test_open_shows_the_images_of_the_corpus(
    made: tuple[str, str], rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    opened: list[str] = []
    monkeypatch.setattr(show.webbrowser, "open", lambda url: not opened.append(url))
    words = ["show", rows[0]["rollout_id"], "--index", made[0], "--open"]
    assert main([*words, "--image-root", made[1]]) == 0
    (url,) = opened
    assert Path(url.removeprefix("file://")).read_bytes()[:3] == b"\xff\xd8\xff"
    capsys.readouterr()
    assert main(words) == 2
    assert "expected an image of the rollout for --open" in capsys.readouterr().err


def test_text_of_the_corpus_cannot_control_the_terminal(
    write_jsonl: Callable[..., Path], rollout: Callable[..., Any], score: Callable[..., Any], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    record = rollout(question="\x1b]0;title\x07\x1b[2Jcleared?", rollout_id="one\x1b[31m")
    record["steps_with_score"][0]["step"] = "a\x1b[31mred\r\x9b31mst\x90ep"
    score(write_jsonl("a.jsonl", [record, record]), tmp_path / "index")
    assert main(["show", "one\x1b[31m", "--index", str(tmp_path / "index")]) == 0
    text = capsys.readouterr().out
    assert "aredstep" in text
    assert not set(text) & {"\x1b", "\r", "\x07", "\x90", "\x9b"}


def test_a_terminal_colours_the_steps(
    made: tuple[str, str], rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(console, "is_terminal", lambda stream: True)
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert main(["show", rows[0]["rollout_id"], "--index", made[0]]) == 0
    text = capsys.readouterr().out
    assert "\x1b[38;2;230;159;0m" in text  # a step of which no continuation was right
