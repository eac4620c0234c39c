"""Questions are read in the background, which waits while a request is answered, but not for ever."""

from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from support.reported import make_reported_in

from bisieve.explore.questions import Turns
from bisieve.explore.session import Session, Start
from bisieve.index.reader import open_index


def test_the_background_waits_until_no_request_is_answered() -> None:
    turns, done = Turns(), list[str]()
    background = Thread(target=lambda: (turns.wait(60), done.append("background")))
    with turns.request(), turns.request():
        background.start()
        done.append("request")
    background.join(60)
    assert done == ["request", "background"]


def test_it_goes_on_if_somebody_always_asks() -> None:
    turns = Turns()
    with turns.request():
        turns.wait(0.01)


def test_a_request_that_fails_is_over() -> None:
    turns = Turns()
    try:
        with turns.request():
            raise ValueError
    except ValueError:
        pass
    turns.wait(60)


def test_a_store_that_does_not_answer_is_waited_for_once(
    s3: str,
    lead_s3_to: Callable[[str], None],
    score: Callable[..., Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index, _ = make_reported_in(s3, tmp_path, score)
    monkeypatch.setattr("bisieve.shards.fetch._CHUNK", 5)  # of 20 questions
    lead_s3_to("http://127.0.0.1:9")
    (tmp_path / "copies").mkdir()
    questions = Session(Start(open_index(index), index, 0.25, {}), tmp_path / "copies").questions
    questions.begin()
    questions.wait()
    assert str(questions.progress["note"]).startswith(
        "20 of 20 questions: expected a response from the store"
    )
    assert len(caplog.records) == 3
