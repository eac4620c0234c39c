"""A run as ``bisieve train`` leaves it: run.json, bisieve.json and event files of a start and a restart."""

import json
from pathlib import Path
from typing import Any

from ray_train.tracking.base import Run
from ray_train.tracking.tensorboard import start

_VALIDATED = {
    "validation_loss": 0.75, "validation_f1": 0.5, "validation_f1_low": 0.4, "validation_f1_high": 0.625,
}  # fmt: skip
IDENTITY = {"fraction": 0.25, "learning_rate": 1e-5, "index": "a" * 64, "selection": "b" * 64}


def write_run(output: Path, steps: int = 20, stopped: int = 12, finished: bool = True) -> str:
    """Return the output of a run that was stopped after ``stopped`` steps and went on from the tenth."""
    output.mkdir(parents=True)
    head = {"run": "abc-1", "index": "file:///index", "backbone": "file:///backbone"}
    (output / "run.json").write_text(json.dumps({**head, "attempt": 1, "identity": IDENTITY}))
    for first, last, loss in ((0, stopped, 1.0), (10, steps, 0.5)):
        tracker = start(Run("abc-1", str(output), first, {}, {}, print, steps))
        for step in range(first + 1, last + 1):
            tracker.add(step, _values(step, loss), 1000.0 + 60 * step)
        tracker.close(finished=last == steps)
    if finished:
        card: dict[str, Any] = {
            **head, "fraction_asked": 0.25, "fraction_delivered": 0.2499, "rollouts": 12345, "held_out": 100,
            "left_out_missing_images": 0, "config": {"validate_every": 5},
            "metrics": {"loss": 0.5, "mean_loss": 0.75},
        }  # fmt: skip
        (output / "bisieve.json").write_text(json.dumps(card))
    return str(output)


def _values(step: int, loss: float) -> dict[str, float]:
    values = {
        "loss": loss, "learning_rate": 1e-5, "gradient_norm": 2.0, "rollouts_per_second": 50.0,
        "data_wait_share": 0.25, "padding_share": 0.125,
    }  # fmt: skip
    return values | (_VALIDATED if step % 5 == 0 else {})
