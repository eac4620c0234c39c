"""Rewards of steps in a program of one's own."""

import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import ray_train
from bisieve.errors import ImageError, StorageError, TrainingError
from ray_train import StepScorer
from ray_train.evaluation.benchmark import Solution
from ray_train.evaluation.scorer import Scorer

STEPS = ["There are 3 bars.", "So the answer is 3."]


@pytest.fixture(scope="module")
def scorer(internvl: Path) -> StepScorer:
    return StepScorer(str(internvl))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    file = tmp_path / "bars.png"
    Image.linear_gradient("L").convert("RGB").save(file)
    return file


def test_the_rewards_are_those_of_an_evaluation(scorer: StepScorer, internvl: Path, picture: Path) -> None:
    solution = Solution(1, (picture.name,), "How many?", tuple(STEPS), (1, 1), "bars", "")
    expected = Scorer(str(internvl), 0, 0).score([solution], str(picture.parent))[0]
    found = scorer.score("How many?", [str(picture)], STEPS)
    assert found == pytest.approx(expected)
    assert all(0 < reward < 1 for reward in found)
    assert scorer.score("How many?", [picture], STEPS) == found
    with Image.open(picture) as image:
        assert scorer.score("How many?", [image], STEPS) == found


def test_an_image_in_memory_is_upright_as_its_file_is(scorer: StepScorer, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn
    file = tmp_path / "photo.jpg"
    Image.linear_gradient("L").resize((90, 40)).convert("CMYK").save(file, exif=exif)
    with Image.open(file) as image:
        assert scorer.score("How many?", [image], STEPS) == scorer.score("How many?", [file], STEPS)


def test_solutions_of_a_batch_have_the_rewards_that_each_has_alone(scorer: StepScorer, picture: Path) -> None:
    asked = [("How many?", [picture], STEPS), ("Why?", [], STEPS[:1]), ("How many?", [picture], STEPS[::-1])]
    together = scorer.score_batch(asked)
    assert [len(rewards) for rewards in together] == [2, 1, 2]
    for one, rewards in zip(asked, together, strict=True):
        assert rewards == pytest.approx(scorer.score(*one), abs=1e-5)


def test_a_model_with_broken_weights_is_an_error_and_not_steps_without_a_reward(internvl: Path) -> None:
    scorer = StepScorer(str(internvl))
    for weights in scorer._scorer._model.parameters():
        weights.data.fill_(math.nan)
    with pytest.raises(TrainingError, match=r"found 2 of 2 .*the weights of this model are"):
        scorer.score("How many?", [], STEPS)


def test_what_cannot_be_scored_is_nan_or_an_error(scorer: StepScorer, internvl: Path, tmp_path: Path) -> None:
    short = StepScorer(str(internvl), max_length=300)
    rewards = short.score("Why?", [], ["We think a little.", "And then we think a lot more. " * 60])
    assert not math.isnan(rewards[0])
    assert math.isnan(rewards[1])
    assert all(map(math.isnan, scorer.score("Why?", [], ["<prm> is in the text."])))
    with pytest.raises(StorageError, match="found nothing"):
        scorer.score("Why?", [str(tmp_path / "none.png")], STEPS)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ImageError, match=r"image .*text\.png"):
        scorer.score("Why?", [str(tmp_path / "text.png")], STEPS)


def test_the_package_has_its_public_names() -> None:
    assert sorted(dir(ray_train)) == sorted(ray_train.__all__)
    assert all(callable(getattr(ray_train, name)) for name in ray_train.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        ray_train.trian  # noqa: B018


def test_solutions_of_a_question_share_their_prompt(
    scorer: StepScorer, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model sees the image once, and the tokens of the prompt once, for all four solutions."""
    lengths, tiles = [], []
    forward = scorer._scorer._model.forward

    def counted(inputs: dict[str, Any]) -> Any:
        lengths.append(inputs["input_ids"].numel())
        tiles.append(len(inputs["pixel_values"]))
        return forward(inputs)

    monkeypatch.setattr(scorer._scorer._model, "forward", counted)
    one = scorer.score("How many?", [picture], STEPS)
    four = scorer.score_batch([("How many?", [str(picture)], STEPS)] * 4)
    assert four == [pytest.approx(one, abs=1e-5)] * 4
    assert tiles[1] == tiles[0] > 0
    assert lengths[0] < lengths[1] < 1.5 * lengths[0], "the prompt with its image is most of it"
