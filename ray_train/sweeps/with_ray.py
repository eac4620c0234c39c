"""Make a trial of several workers: the ordinary training by Ray Train, and evaluation by Ray Data."""

import time
from typing import Any

from ray_train.config import TrainConfig
from ray_train.evaluation.config import EvaluateConfig
from ray_train.evaluation.evaluate import evaluate
from ray_train.model.metadata import read_card
from ray_train.training.driver import train


def run_with_ray(config: TrainConfig, evaluation: EvaluateConfig) -> dict[str, Any]:
    """Train and evaluate on the Ray that this process belongs to; a training that was stopped continues.

    Args:
        config: Options of the training, whose output all machines can reach.
        evaluation: Options of the evaluation; its model is that output.

    Returns:
        What `trial.run_trial` returns, without the losses; ``seconds`` are those of this process alone.

    Raises:
        BisieveError: The user must change something.
    """
    started = time.perf_counter()
    train(config)
    trained = time.perf_counter()
    numbers = evaluate(evaluation)
    card = read_card(config.output, "--output")
    assert card is not None  # `train` has written it
    steps = -(-card["rollouts"] // config.global_batch) * config.epochs
    return {
        **numbers,
        "training": {
            "rollouts": card["rollouts"],
            "optimizer_steps": steps,
            "mean_loss": card["metrics"]["mean_loss"],
            "seconds": trained - started,
        },
        "evaluation_seconds": time.perf_counter() - trained,
    }
