"""What `POST /score` takes, what it refuses by name, and what it answers."""

import json
import math
from typing import Any

import pytest
from PIL import Image
from support.served_model import as_png, data_url

from ray_train.serving.question import RefusedError, Served
from ray_train.serving.score_request import ScoreRequest, score_answer, score_request

PICTURE = as_png(Image.new("RGB", (30, 20), "red"))


def parsed(body: Any, served: Served, max_pixels: int = 1000, max_steps: int = 4) -> ScoreRequest:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return score_request(data, served, max_pixels, max_steps)


def test_a_solution_is_a_list_of_steps_or_a_text(served: Served) -> None:
    for solution in ({"steps": ["A. ", "B."]}, {"text": "A.\n\nB."}, {"text": "A.\nB.", "split": "lines"}):
        request = parsed({"question": " How many? ", "image": data_url(PICTURE), **solution}, served)
        assert request.asked.question == "How many?"
        assert request.asked.images == (PICTURE,)
        assert request.asked.solutions == (("A.", "B."),)
        assert not request.several


def test_candidates_may_be_of_both_forms(served: Served) -> None:
    request = parsed({"question": "How many?", "candidates": [["A."], "B.\n\nC."]}, served)
    assert request.asked.solutions == (("A.",), ("B.", "C."))
    assert request.several


REFUSED = [
    (b"{", 400, "JSON as the body"),
    (b"\xff", 400, "JSON as the body"),
    (b"[" * 5000, 400, "body of /score"),
    ({"question": "Why?"}, 400, "one of steps, text and candidates; found none"),
    ({"question": "Why?", "steps": ["A."], "text": "A."}, 400, "found steps and text"),
    ({"question": "Why?", "stepz": ["A."]}, 400, "unknown field `stepz`; did you mean steps?"),
    ({"question": 3, "steps": ["A."]}, 400, "Expected `str`, got `int` - at `$.question`"),
    ({"steps": ["A."]}, 400, "missing required field `question`"),
    ({"question": "Why?", "steps": "A."}, 400, "Expected `array"),
    ({"question": "Why?", "steps": [None]}, 400, "got `null`"),
    ({"question": " ", "steps": ["A."]}, 422, "expected a question; found a blank one"),
    ({"question": "Why?", "steps": []}, 422, "at least one step; found none"),
    ({"question": "Why?", "text": " \n "}, 422, "at least one step; found none"),
    ({"question": "Why?", "candidates": []}, 422, "at least one solution"),
    ({"question": "Why?", "candidates": [["A."], []]}, 422, "at least one step in solution 2"),
    ({"question": "Why?", "steps": ["A.", " "]}, 422, "a text as step 2; found a blank one"),
    ({"question": "Why?", "steps": ["A.<prm>"]}, 422, "prompt in step 1; found '<prm>'"),
    ({"question": "<|im_end|>", "steps": ["A."]}, 422, "in the question; found '<|im_end|>'"),
    ({"question": "Why?", "candidates": [["A."] * 3, ["B."] * 2]}, 413, "at most 4 steps in a request"),
    ({"question": "Why?", "steps": ["A."], "image": "http://host/a.png"}, 422, "found a URL with http:"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "text"), REFUSED)
def test_a_bad_request_is_refused_by_name(body: Any, status: int, text: str, served: Served) -> None:
    with pytest.raises(RefusedError) as refused:
        parsed(body, served)
    assert text in str(refused.value)
    assert refused.value.status == status


def test_an_answer_has_rewards_and_scores(served: Served) -> None:
    request = parsed({"question": "Why?", "steps": ["A.", "B."]}, served)
    answer = score_answer(request, [[0.5, math.nan]], "mprm")
    assert answer == {
        "model": "mprm", "steps": ["A.", "B."], "rewards": [0.5, None],
        "scores": {"mean": 0.5, "min": 0.5, "last": 0.5, "product": 0.5, "max": 0.5},
    }  # fmt: skip


def test_an_answer_with_candidates_says_which_is_best(served: Served) -> None:
    request = parsed({"question": "Why?", "candidates": [["A.", "B."], ["C."], ["D."]]}, served)
    answer = score_answer(request, [[0.9, 0.1], [0.6], [math.nan]], "mprm")
    assert [each["rewards"] for each in answer["candidates"]] == [[0.9, 0.1], [0.6], [None]]
    assert answer["candidates"][2]["scores"]["min"] is None
    assert answer["best"] == {"mean": 1, "min": 1, "last": 1, "product": 1, "max": 0}
