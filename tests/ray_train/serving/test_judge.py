"""What a replica does apart from Ray: a question that fails is alone with it, and an error is returned."""

import asyncio
import math
import pickle
from pathlib import Path

import pytest
from PIL import Image
from support.published import publish
from support.served_model import STEPS, as_png, judge_of

from ray_train import StepScorer
from ray_train.serving.question import Question, RefusedError, Scored

GOOD = Image.linear_gradient("L").convert("RGB").resize((90, 40))
THIN = Image.new("RGB", (2000, 4))  # Qwen's processor refuses it


@pytest.fixture(scope="module")
def folder(qwen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judge") / "model"
    publish(qwen, folder)
    return folder


def test_an_image_that_the_processor_refuses_does_not_spoil_the_batch(folder: Path) -> None:
    judge, _ = judge_of(folder)
    questions = [Question("Why?", (as_png(image),), (tuple(STEPS),)) for image in (GOOD, THIN, GOOD)]

    async def ask() -> list[Scored | RefusedError]:
        return await asyncio.gather(*map(judge.score, questions))

    first, refused, last = asyncio.run(ask())
    (expected,) = StepScorer(str(folder)).score_batch([("Why?", [GOOD], STEPS)])
    for scored in (first, last):
        assert isinstance(scored, Scored)
        assert scored.rewards == [pytest.approx(expected, abs=1e-6)]
    assert isinstance(refused, RefusedError)
    assert "accepts as image 1" in str(refused)
    assert refused.status == 422


def test_a_model_that_cannot_be_loaded_is_an_answer(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[:1000])
    judge, _ = judge_of(tmp_path)
    assert isinstance(judge.served(), Exception)
    refused = asyncio.run(judge.score(Question("Why?", (), (tuple(STEPS),))))
    assert isinstance(refused, RefusedError)
    assert refused.status == 503
    judge.check_health()  # not at once: `bisieve serve` is to get the error first
    judge._begun -= 60
    with pytest.raises(RuntimeError, match="expected"):
        judge.check_health()


def test_a_model_with_broken_weights_is_a_fault_of_the_model(folder: Path) -> None:
    judge, _ = judge_of(folder)
    for weights in judge._scorer._model.parameters():
        weights.data.fill_(math.nan)
    refused = asyncio.run(judge.score(Question("Why?", (), (tuple(STEPS),))))
    assert isinstance(refused, RefusedError)
    assert "the weights of this model are broken" in str(refused)
    assert refused.status == 500


def test_what_is_sent_between_processes_is_unchanged() -> None:
    refused = RefusedError("a", "b", "c", 413)
    copied = pickle.loads(pickle.dumps(refused))
    assert (copied.args, copied.status) == (refused.args, 413)
