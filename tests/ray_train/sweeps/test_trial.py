"""A trial gives the numbers of the commands, in a fresh process and after other trials."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from support.runs import last_checkpoint
from support.sample_logs import loss_curve
from support.small_corpus import Corpus

from bisieve.errors import ImageError
from ray_train.choices import Workers
from ray_train.compat.deepspeed import forget_process_groups
from ray_train.config import TrainConfig
from ray_train.config_io import located
from ray_train.data.workers import Preparation
from ray_train.evaluation.config import EvaluateConfig
from ray_train.evaluation.evaluate import evaluate
from ray_train.evaluation.scorer import Scorer
from ray_train.sweeps.trial import run_trial
from ray_train.training.driver import train

Make = Callable[..., TrainConfig]


@pytest.fixture(scope="module", autouse=True)
def _group_of_trials() -> Iterator[None]:
    """A process of trials keeps its process group; this one has other tests, which make their own."""
    yield
    if dist.is_initialized():
        dist.destroy_process_group()
        forget_process_groups()


@pytest.fixture
def trial(settings: Make, corpus: Corpus, tmp_path: Path) -> Callable[..., Any]:
    """Runs a trial; arguments are options of the training."""

    def run(**options: Any) -> dict[str, Any]:
        config = located(settings(output=str(tmp_path / "trial"), **options))
        return run_trial(config, evaluation(corpus, config))

    return run


def evaluation(corpus: Corpus, config: TrainConfig) -> EvaluateConfig:
    """The evaluation of the model that ``config`` trains."""
    return EvaluateConfig(
        model=config.output, benchmark=corpus.benchmark, image_root=corpus.images, workers=1,
        output=f"{config.output}-metrics",
    )  # fmt: skip


OF_PLACES = {"model", "run", "training", "evaluation_seconds"}


def numbers(result: dict[str, Any]) -> dict[str, Any]:
    """The metrics of a result, without names of places and seconds."""
    return {name: value for name, value in result.items() if name not in OF_PLACES}


def test_losses_and_metrics_of_a_trial_are_those_of_the_commands_with_one_worker(
    ray_cluster: None, settings: Make, corpus: Corpus, trial: Callable[..., Any]
) -> None:
    config = settings(workers=Workers(1, 1), epochs=2, seed=3)
    train(config)
    expected = evaluate(evaluation(corpus, config))
    found = trial(epochs=2, seed=3)
    losses = loss_curve(last_checkpoint(config.output))
    assert found["training"]["losses"] == pytest.approx(losses, abs=1e-6)
    assert found["training"]["optimizer_steps"] == len(losses)
    assert found["auc"] == expected["auc"]
    assert numbers(found).keys() == numbers(expected).keys()
    assert found["overall_f1"] == pytest.approx(expected["overall_f1"])
    assert found["brier"] == pytest.approx(expected["brier"], abs=1e-6)


def test_a_trial_after_others_gives_the_numbers_of_the_first_and_prepares_no_prompt_again(
    trial: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trial(seed=1)
    trial(seed=2, deterministic=True)
    prepare = Preparation._encoded
    monkeypatch.setattr(
        Preparation, "_encoded",
        lambda self, samples: pytest.fail("encoded again") if samples else prepare(self, samples),
    )  # fmt: skip
    monkeypatch.setattr(Scorer, "encode", lambda *_: pytest.fail("encoded again"))
    again = trial(seed=1)
    assert again["training"]["losses"] == first["training"]["losses"]
    assert numbers(again) == numbers(first)


def test_an_error_of_a_trial_is_raised_and_the_next_trial_works(
    trial: Callable[..., Any], corpus: Corpus, tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match="--image-root"):
        trial(image_root=str(tmp_path))
    assert trial(fraction=0.3)["training"]["rollouts"] == 12
