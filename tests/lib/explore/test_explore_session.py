"""What a page shows is what the library says of the index: rows, selections, texts, marks."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any

import pytest
from support.reported import make_reported

import bisieve
from bisieve.errors import UsageError
from bisieve.explore import database
from bisieve.explore import session as sessions
from bisieve.explore.filters import filters_of
from bisieve.explore.session import Session, Start
from bisieve.index.reader import open_index
from bisieve.index.selection import select


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, score: Callable[..., Any]) -> tuple[str, str]:
    return make_reported(tmp_path_factory.mktemp("corpus"), score)


@pytest.fixture
def session(made: tuple[str, str], tmp_path: Path) -> Session:
    url, images = made
    exclude = str(tmp_path / "exclude.txt")
    return Session(Start(open_index(url), url, 0.25, {}, exclude, images), tmp_path)


def all_rows(made: tuple[str, str], **asked: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = bisieve.open_index(made[0]).select(1.0, **asked).table.to_pylist()
    return rows


def passing(
    session: Session, by: str = "rank", descending: bool = False, **asked: Any
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = session.rollouts(filters_of(asked), by, descending, 0, 500)["rows"]
    return rows


def places(rows: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(row["source"], row["rank"]) for row in rows]


@pytest.mark.parametrize(
    ("asked", "passes"),
    [
        ({}, lambda row: True),
        ({"source": "reading"}, lambda row: row["source"] == "reading"),
        ({"bis_min": 0.1, "bis_max": 0.28}, lambda row: 0.1 <= row["bis"] <= 0.28),
        ({"rank_max": 3}, lambda row: row["rank"] <= 3),
        ({"kind": "mixed"}, lambda row: 0 < row["num_positive"] < row["num_steps"]),
        (
            {"kind": "all positive", "selected": "dropped"},
            lambda row: row["num_positive"] == 6 and row["rank"] > 10,
        ),
        ({"selected": "kept"}, lambda row: row["rank"] <= 10),
        ({"selected": "entered"}, lambda row: False),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_filters_pass_what_plain_python_passes(
    session: Session, made: tuple[str, str], asked: dict[str, Any], passes: Callable[[dict[str, Any]], bool]
) -> None:
    expected = [row for row in all_rows(made) if passes(row)]
    assert sorted(places(passing(session, **asked))) == places(expected)
    counts = session.rollouts(filters_of(asked), "rank", False, 0, 1)["counts"]
    assert counts["rollouts"] == len(expected)
    assert counts["kept"] == sum(row["rank"] <= 10 for row in expected)
    ids = "".join(session.ids(filters_of(asked))).splitlines()
    assert ids == sorted({row["rollout_id"] for row in expected})


def test_pages_follow_each_other_in_the_order_that_was_asked_for(session: Session) -> None:
    whole = passing(session, "bis", True)
    pages = [session.rollouts(filters_of({}), "bis", True, first, 7)["rows"] for first in range(0, 80, 7)]
    assert [row for page in pages for row in page] == whole
    assert whole == sorted(whole, key=lambda row: (-row["bis"], row["source"], row["rank"]))


def test_the_text_of_questions_is_found_when_it_is_read(session: Session) -> None:
    assert passing(session, text="ADDING 7?") == []
    session.questions.begin()
    session.questions.wait()
    assert session.questions.progress == {"done": 20, "total": 20, "note": "", "is_finished": True}
    found = passing(session, text="ADDING 7?")
    assert len(found) == 4
    assert {row["question"][:9] for row in found} == {"adding 7?"}


def test_reading_questions_waits_for_requests_and_can_be_stopped(session: Session) -> None:
    with session.turns.request():
        session.questions.begin()
        while not session.questions.progress["total"]:
            sleep(0.01)
        assert session.questions.progress["done"] == 0
        stopping = Thread(target=session.questions.stop)
        stopping.start()
    stopping.join(60)
    assert session.questions.progress["done"] == 0
    assert session.questions.progress["is_finished"]


def test_the_page_is_told_which_options_a_strategy_has(session: Session) -> None:
    options = session.about()["strategies"]
    assert (options["bis"], options["reliable"], options["random"]) == (["alpha", "ties"], ["ties"], ["seed"])
    assert "pair_share" in options["paired"]


def test_a_rollout_is_opened_with_its_image_and_the_others_of_its_question(
    session: Session, made: tuple[str, str]
) -> None:
    found = session.rollout("adding", 3, 0)
    expected = bisieve.open_index(made[0]).look_up(found["rollout_id"], source="adding")
    assert found["question"] == expected.example.rollout.question  # type: ignore[union-attr]
    assert found["pictures"][0].startswith("data:image/jpeg;base64,")
    assert len(found["others"]) == 3
    for source, rank, number, expected_error in (
        ("adding", 99, 0, "none with rank 99 in adding"),
        ("none", 1, 0, "none with rank 1 in none"),
        ("adding", 3, 7, "found an older one; load the page again"),
    ):
        with pytest.raises(UsageError, match=expected_error):
            session.rollout(source, rank, number)


@pytest.mark.parametrize(
    ("fraction", "asked"),
    [
        (0.5, {}),
        (0.1, {"alpha": 0.2}),
        (0.25, {"strategy": "random"}),
        (0.3, {"strategy": "paired", "ties": "spread", "all_negative": "drop"}),
        (0.25, {"threshold": 0.95, "all_negative": "last"}),
    ],
    ids=str,
)
def test_another_selection_is_the_librarys_and_tells_what_moved(
    session: Session, made: tuple[str, str], fraction: float, asked: dict[str, Any]
) -> None:
    state = session.select(fraction, asked, False)
    index = open_index(made[0])
    first, now = select(index, 0.25, {}).rows.to_pylist(), select(index, fraction, asked).rows.to_pylist()
    assert sorted(places(passing(session, selected="kept"))) == places(now)

    def spans(rows: list[dict[str, Any]]) -> set[tuple[str, int]]:
        return {(row["spans"][0]["shard"], row["spans"][0]["offset"]) for row in rows}

    entered, left = len(spans(now) - spans(first)), len(spans(first) - spans(now))
    counts = session.rollouts(filters_of({}), "rank", False, 0, 1)["counts"]
    assert (counts["entered"], counts["left"], counts["rollouts"]) == (entered, left, 80)
    assert sum(each["both"] for each in state["moved"]) == len(first) - left
    assert sum(each["kept"] for each in state["moved"]) == len(now)
    with pytest.raises(UsageError, match="an older one"):
        session.rollout("adding", 1, 0)
    assert session.rollout("adding", 1, state["number"])["rank"] == 1


def test_a_wrong_selection_is_refused_and_the_shown_one_stays(session: Session) -> None:
    for fraction, asked in ((2, {}), ("x", {}), (0.5, {"alpha": -1.0}), (0.5, {"alhpa": 1.0})):
        with pytest.raises(UsageError):
            session.select(fraction, asked, False)
    assert session.state()["fraction"] == 0.25
    assert session.rollout("adding", 1, 0)["rank"] == 1


def test_marked_ids_are_in_the_file_that_export_reads(
    session: Session, made: tuple[str, str], tmp_path: Path
) -> None:
    rows = all_rows(made)
    ids = {row["rollout_id"] for row in rows if row["source"] == "adding" and row["rank"] <= 3}
    session.mark(sorted(ids), True)
    session.mark_all(filters_of({"source": "reading", "kind": "all negative"}), True)
    ids |= {row["rollout_id"] for row in rows if row["source"] == "reading" and row["num_positive"] == 0}
    file = tmp_path / "exclude.txt"
    assert set(file.read_text().splitlines()) == ids == set(session.marked().splitlines())
    assert {row["rollout_id"] for row in passing(session, selected="marked")} == ids
    state = session.select(0.25, {}, True)
    expected = bisieve.open_index(made[0]).select(0.25, exclude=str(file)).table.to_pylist()
    assert sorted(places(passing(session, selected="kept"))) == places(expected)
    assert sum(each["kept"] for each in state["moved"]) == len(expected)
    session.mark(sorted(ids), False)
    assert file.read_text() == ""
    session.select(0.25, {}, True)
    assert session.rollouts(filters_of({}), "rank", False, 0, 1)["counts"]["rollouts"] == 80


def test_the_file_is_continued_with_the_ids_that_it_has(made: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "exclude.txt"
    file.write_text("of another index\n")
    url, images = made
    session = Session(Start(open_index(url), url, 0.25, {}, str(file), images), tmp_path)
    session.mark(["x"], True)
    assert file.read_text() == "of another index\nx\n"
    with pytest.raises(UsageError, match="ids without a line break"):
        session.mark(["a\nb"], True)
    assert file.read_text() == "of another index\nx\n"


def test_what_others_change_in_the_file_of_marks_is_kept(made: tuple[str, str], tmp_path: Path) -> None:
    file, (url, images) = tmp_path / "exclude.txt", made
    file.write_text("a\nb\n")
    one, two = (Session(Start(open_index(url), url, 0.25, {}, str(file), images), tmp_path) for _ in range(2))
    one.mark(["c"], True)
    assert two.mark(["b"], False)["marked"] == 2
    assert file.read_text() == "a\nc\n"
    one.mark(["d"], True)
    assert file.read_text() == one.marked() == "a\nc\nd\n"
    file.write_text("d\ne\n")
    two.mark(["f"], True)
    assert file.read_text() == two.marked() == "d\ne\nf\n"


def test_ids_with_a_line_break_are_never_written_and_spoil_no_other_mark(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    records = [rollout(rollout_id=each) for each in ("a\nb", "c\r", "d")]
    score(write_jsonl("a.jsonl", records), tmp_path / "index")
    file, url = tmp_path / "exclude.txt", str(tmp_path / "index")
    session = Session(Start(open_index(url), url, 0.25, {}, str(file)), tmp_path)
    for text in ("a", "c", ""):
        for act in (session.ids, lambda filters: session.mark_all(filters, True)):
            with pytest.raises(UsageError, match="ids without a line break"):
                act(filters_of({"text": text}))
    session.mark_all(filters_of({"text": "d"}), True)
    session.mark(["d"], True)
    assert file.read_text() == "d\n" == "".join(session.ids(filters_of({"text": "d"})))


def test_how_many_questions_could_not_be_read_is_told(score: Callable[..., Any], tmp_path: Path) -> None:
    url, _ = make_reported(tmp_path, score)
    (tmp_path / "corpus/shards/adding.jsonl").unlink()
    session = Session(Start(open_index(url), url, 0.25, {}), tmp_path)
    session.questions.begin()
    session.questions.wait()
    note = session.questions.progress["note"]
    assert str(note).startswith("10 of 20 questions: expected ")


def test_too_many_marks_at_once_are_refused(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_MOST_MARKED", 79)
    with pytest.raises(UsageError, match="at most 79 rollouts to mark at once; found 80"):
        session.mark_all(filters_of({}), True)


def test_a_file_inside_the_index_is_refused(made: tuple[str, str], tmp_path: Path) -> None:
    url, images = made
    with pytest.raises(UsageError):
        Session(Start(open_index(url), url, 0.25, {}, f"{url}/manifest.json", images), tmp_path)


def test_rejected_records_are_shown_with_their_beginning(session: Session) -> None:
    found = session.rejects("", "", 0)
    assert sorted((row["source"], row["reason"]) for row in found) == [
        ("adding", "bad_json"), ("adding", "no_image"), ("reading", "bad_json"), ("reading", "no_image"),
    ]  # fmt: skip
    (bad,) = session.rejects("reading", "bad_json", 0)
    assert bad["begins"] == "{"
    assert session.rejects("reading", "bad_json", 1) == []


def test_an_index_in_a_store_is_copied(
    session: Session, made: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "is_local", lambda url: False)
    copied = Session(Start(open_index(made[0]), made[0], 0.25, {}), tmp_path)
    assert len(list(tmp_path.glob("*.parquet"))) == 2  # of rollouts and of rejected records
    assert passing(copied) == passing(session)


def test_an_index_without_a_rollout_gets_one_line(made: tuple[str, str], tmp_path: Path) -> None:
    index = open_index(made[0])
    index = replace(index, manifest=replace(index.manifest, rollouts=0))
    with pytest.raises(UsageError, match="expected an index with rollouts at index; found none"):
        Session(Start(index, "index", 0.25, {}), tmp_path)


def test_an_index_that_lacks_a_file_gets_one_line(
    made: tuple[str, str], score: Callable[..., Any], tmp_path: Path
) -> None:
    url, _ = make_reported(tmp_path, score)
    index = open_index(url)
    next(Path(url).rglob("rollouts/*.parquet")).unlink()
    with pytest.raises(bisieve.errors.IndexUnusableError, match="found it missing or changed"):
        Session(Start(index, url, 0.25, {}), tmp_path)
