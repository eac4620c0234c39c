"""The load test of `bisieve serve` sees memory that grows, and answers that are lost, wrong or too many."""

import json
from collections import Counter

import pytest

from bench.serving.clients import Count
from bench.serving.memory import MOST_GROWTH, growing, growth
from bench.serving.mix import Asked, bad_requests, is_right
from bench.serving.run import _faults

GOOD = Asked("steps", "/score", b"", 200, ((0.5, 0.25),))
TIMES = [float(second) for second in range(0, 1800, 5)]
FLAT = [(time, 600.0 + time % 15) for time in TIMES]
LINE = ["bisieve: terminated; 3 requests answered"]


def test_growth_is_that_after_the_first_third() -> None:
    warm = [(time, 300 + min(time, 600) / 2) for time in TIMES]
    leak = [(time, 600 + 2 * MOST_GROWTH * time / 60) for time in TIMES]
    assert growth(warm) == pytest.approx(0, abs=0.01)
    assert growth(leak) == pytest.approx(2 * MOST_GROWTH)
    assert growing({"server": FLAT, "replica": leak, "controller": warm}) == ["replica"]


def test_an_answer_is_right_only_with_its_status_and_its_rewards() -> None:
    for rewards, right in (([0.5, 0.25], True), ([0.5, 0.26], False), ([0.5], False)):
        assert is_right(GOOD, 200, json.dumps({"rewards": rewards}).encode(), 1e-6) is right
    assert not is_right(GOOD, 500, b"{}", 1e-6)
    (refused, *_) = bad_requests()
    assert is_right(refused, 400, b'{"error": {"expected": "", "found": "", "hint": ""}}', 1e-6)
    assert not is_right(refused, 400, b'{"error": {}}', 1e-6)


def count(wrong: list[str] | None = None, **statuses: int) -> Count:
    answers = {f"/score {status.removeprefix('s')}": number for status, number in statuses.items()}
    return Count(Counter({"client leaves": 1}), Counter(answers), wrong or [])


def test_answers_that_are_lost_or_too_many_are_faults() -> None:
    seen, counted = count(s200=3, s404=1), Counter({"/score 200": 3})
    assert _faults(seen, counted, {"server": FLAT}, 200, 143, LINE) == []
    one_unread = counted + Counter({"/score 503": 1})
    assert _faults(seen, one_unread, {"server": FLAT}, 200, 143, LINE) == []
    for other in (Counter({"/score 200": 4}), Counter({"/score 200": 2}), one_unread + one_unread):
        (fault,) = _faults(seen, other, {"server": FLAT}, 200, 143, LINE)
        assert fault.startswith("WRONG: the server counted")
    (fault,) = _faults(count(["steps: no answer"], s200=3), counted, {}, 200, 143, LINE)
    assert fault == "WRONG: 1 answers, such as steps: no answer"


def test_an_end_in_more_than_a_line_is_a_fault() -> None:
    for code, said in ((1, LINE), (143, [*LINE, "Traceback"])):
        (fault,) = _faults(count(), Counter(), {}, 200, code, said)
        assert fault.startswith("WRONG: SIGTERM ends it")
