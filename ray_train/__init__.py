"""Training and evaluation of a multimodal process reward model (MPRM), with Ray Train and Ray Data.

>>> from ray_train import StepScorer, TrainConfig, train
>>> train(TrainConfig(index="index", image_root="images", backbone="org/name", output="model", fraction=0.1))
>>> StepScorer("model").score("How many?", ["chart.png"], ["There are 3.", "So 3."])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray_train.config import TrainConfig
    from ray_train.evaluation.best_of import best_of
    from ray_train.evaluation.compare import compare_evaluations
    from ray_train.evaluation.config import BestOfConfig, EvaluateConfig
    from ray_train.evaluation.evaluate import evaluate
    from ray_train.evaluation.predict import PredictConfig, predict
    from ray_train.evaluation.solution_scorer import SolutionScorer
    from ray_train.evaluation.step_client import StepClient
    from ray_train.evaluation.step_scorer import StepScorer
    from ray_train.model.serving_files import add_serving_files
    from ray_train.registry.push import push
    from ray_train.serving.config import ServeConfig
    from ray_train.serving.server import serve
    from ray_train.sweeps.config import SweepConfig
    from ray_train.sweeps.run import sweep
    from ray_train.training.driver import train

# Imported on first access: ``import ray_train`` needs neither torch nor Ray.
_HOMES = {
    "TrainConfig": "ray_train.config",
    "EvaluateConfig": "ray_train.evaluation.config",
    "BestOfConfig": "ray_train.evaluation.config",
    "train": "ray_train.training.driver",
    "evaluate": "ray_train.evaluation.evaluate",
    "compare_evaluations": "ray_train.evaluation.compare",
    "best_of": "ray_train.evaluation.best_of",
    "SweepConfig": "ray_train.sweeps.config",
    "sweep": "ray_train.sweeps.run",
    "SolutionScorer": "ray_train.evaluation.solution_scorer",
    "StepScorer": "ray_train.evaluation.step_scorer",
    "StepClient": "ray_train.evaluation.step_client",
    "PredictConfig": "ray_train.evaluation.predict",
    "predict": "ray_train.evaluation.predict",
    "add_serving_files": "ray_train.model.serving_files",
    "push": "ray_train.registry.push",
    "ServeConfig": "ray_train.serving.config",
    "serve": "ray_train.serving.server",
}
__all__ = [
    "BestOfConfig", "EvaluateConfig", "PredictConfig", "ServeConfig", "SolutionScorer", "StepClient",
    "StepScorer", "SweepConfig", "TrainConfig", "add_serving_files", "best_of", "compare_evaluations",
    "evaluate", "predict", "push", "serve", "sweep", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a name of the public API on first access."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the names of the public API."""
    return __all__
