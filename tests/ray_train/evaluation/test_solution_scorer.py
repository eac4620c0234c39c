"""A `SolutionScorer` gives a solution one reward, of the steps that have one."""

import base64
import math
import threading
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.published import publish
from support.vllm_server import serving_model

from bisieve.errors import ImageError, UsageError
from ray_train import SolutionScorer, StepScorer
from ray_train.evaluation.solution_scorer import pictures_of

TEXT = "There are 3 bars.\n\nSo the answer\nis 3.\n\n"


class Known:
    """Rewards 0.9, 0.8, … to the steps of each solution; NaN from the third on."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def score_batch(self, solutions: Sequence[Any]) -> list[list[float]]:
        self.asked += solutions
        return [[(0.9, 0.8)[n] if n < 2 else math.nan for n in range(len(one[2]))] for one in solutions]


def png() -> bytes:
    encoded = BytesIO()
    Image.new("RGB", (4, 3), (200, 10, 10)).save(encoded, "PNG")
    return encoded.getvalue()


@pytest.mark.parametrize(
    ("aggregate", "expected"), [("mean", 0.85), ("min", 0.8), ("last", 0.8), ("product", 0.72), ("max", 0.9)]
)
def test_the_rewards_of_the_steps_become_one(aggregate: str, expected: float) -> None:
    score = SolutionScorer(Known(), aggregate).score("How many?", None, TEXT + "A step beyond the limit.")
    assert score.reward == pytest.approx(expected)
    assert score.steps[:2] == (0.9, 0.8)
    assert (len(score.steps), score.unscored) == (3, 1)


def test_a_text_is_split_and_a_list_of_steps_is_not() -> None:
    judge = Known()
    SolutionScorer(judge).score_batch([("Q", [], TEXT), ("Q", [], ["A\n\nstep."])])
    SolutionScorer(judge, split="lines").score("Q", [], TEXT)
    assert [list(steps) for _, _, steps in judge.asked] == [
        ["There are 3 bars.", "So the answer\nis 3."], ["A\n\nstep."],
        ["There are 3 bars.", "So the answer", "is 3."],
    ]  # fmt: skip


@pytest.mark.parametrize("empty", ["", " \n\n ", [], None])
def test_an_empty_solution_has_no_reward_and_is_not_sent(empty: Any) -> None:
    judge = Known()
    first, none, last = SolutionScorer(judge).score_batch(
        [("Q", [], "A."), ("Q", [], empty), ("Q", [], TEXT)]
    )
    assert (none.reward, none.steps) == (None, ())
    assert (len(first.steps), len(last.steps)) == (1, 2)
    assert len(judge.asked) == 2
    assert SolutionScorer(judge).score("Q", [], empty).reward is None
    assert len(judge.asked) == 2


def test_a_solution_without_a_scored_step_has_no_reward() -> None:
    class Nothing:
        def score_batch(self, solutions: Sequence[Any]) -> list[list[float]]:
            return [[math.nan] * len(steps) for _, _, steps in solutions]

    score = SolutionScorer(Nothing(), "product").score("Q", [], TEXT)
    assert (score.reward, score.unscored) == (None, 2)


def test_images_come_in_the_forms_of_data_sets(tmp_path: Path) -> None:
    picture = Image.open(BytesIO(png()))
    assert pictures_of(None) == []
    assert pictures_of("a.png") == ["a.png"]
    assert pictures_of(tmp_path / "a.png") == [tmp_path / "a.png"]
    assert pictures_of(["a.png", "s3://b/c.png"]) == ["a.png", "s3://b/c.png"]
    assert pictures_of(np.array(["a.png", "b.png"], dtype=object)) == ["a.png", "b.png"]
    assert pictures_of([picture, {"bytes": None, "path": "b.png"}]) == [picture, "b.png"]
    url = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    broken = f"DATA:image/png;base64,{base64.encodebytes(png()).decode()}"
    for encoded in (png(), url, broken, {"bytes": png(), "path": None}):
        (decoded,) = pictures_of(encoded)
        assert isinstance(decoded, Image.Image)
        assert (decoded.size, decoded.getpixel((0, 0))) == ((4, 3), (200, 10, 10))


@pytest.mark.parametrize(
    "wrong", [3, [3], [None], {"url": "a.png"}, b"no image", "data:image/png;base64,?", "data:,a",
              "data:image/png;base64,é"],
)  # fmt: skip
def test_what_is_no_image_is_refused(wrong: Any) -> None:
    with pytest.raises(ImageError, match=r"expected .*image"):
        pictures_of(wrong)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ((None, [], TEXT), "a text as question; found None"),
        ((7, [], TEXT), "a text as question; found 7"),
        (("Q", [], 7), "a text or a list of steps as solution; found 7"),
        (("Q", [], ["A.", None]), "as solution; found \\['A.', None\\]"),
    ],
)
def test_a_record_without_texts_is_refused_before_the_judge_is_asked(asked: Any, expected: str) -> None:
    judge = Known()
    with pytest.raises(UsageError, match=expected):
        SolutionScorer(judge).score_batch([("Q", [], "A."), asked])
    assert judge.asked == []


def test_wrong_choices_and_an_empty_environment_are_refused() -> None:
    with pytest.raises(UsageError, match="expected one of mean, min, last, product, max for aggregate"):
        SolutionScorer(Known(), "sum")
    with pytest.raises(UsageError, match="expected one of paragraphs, lines for split"):
        SolutionScorer(Known(), split="words")
    with pytest.raises(UsageError, match="BISIEVE_SERVER or BISIEVE_MODEL in the environment"):
        SolutionScorer.from_environment({})


def test_threads_take_turns_with_a_judge_that_is_not_for_several() -> None:
    class Alone:
        busy = False

        def score_batch(self, solutions: Sequence[Any]) -> list[list[float]]:
            assert not self.busy
            self.busy = True
            threading.Event().wait(0.001)
            self.busy = False
            return [[0.5] * len(steps) for _, _, steps in solutions]

    scorer, found = SolutionScorer(Alone()), []
    threads = [threading.Thread(target=lambda: found.append(scorer.score("Q", [], TEXT))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [score.reward for score in found] == [0.5] * 20


def test_the_environment_names_a_model_or_a_server_of_it(internvl: Path, tmp_path: Path) -> None:
    publish(internvl, tmp_path / "model")
    steps = ["There are 3 bars.", "So the answer\nis 3."]
    expected = StepScorer(str(tmp_path / "model")).score("How many?", [], steps)
    variables = {"BISIEVE_MODEL": str(tmp_path / "model"), "BISIEVE_AGGREGATE": "min"}
    own = SolutionScorer.from_environment(variables).score("How many?", None, TEXT)
    assert own.reward == pytest.approx(min(expected), abs=1e-5)
    with serving_model(tmp_path / "model") as served:
        asking = SolutionScorer.from_environment({**variables, "BISIEVE_SERVER": served.url})
        assert asking.score("How many?", None, TEXT).steps == pytest.approx(expected, abs=1e-5)
