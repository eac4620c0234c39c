"""An evaluation as ``bisieve evaluate`` writes it, of a model that is mostly right, and its images."""

from pathlib import Path

import numpy as np
from PIL import Image

from ray_train.choices import CALIBRATION
from ray_train.evaluation.benchmark import Solution
from ray_train.evaluation.metrics import judged_steps
from ray_train.evaluation.report import report
from ray_train.evaluation.scores_file import write_evaluation
from support.reported import ATTACK


def write_evaluated(folder: Path, questions: int = 60) -> tuple[str, str]:
    """Return the folder of an evaluation of two solutions a question, and the image root."""
    rng = np.random.default_rng(3)
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (30, 20), (9, 99, 9)).save(folder / "images/one.png")
    solutions, rewards = [], []
    for line in range(1, 2 * questions + 1):
        judgements = tuple(rng.choice([1, 1, 1, 0, -1], 5).tolist())
        noise = rng.normal(0, 0.25, 5)
        rewards.append(np.clip([0.5 + 0.3 * each for each in judgements] + noise, 0, 1).tolist())
        steps = tuple(f"step {step} {ATTACK}" for step in range(5))
        source = ("geometry", "charts", "tables")[line % 3]
        question = f"question {line // 2} {ATTACK}"
        solutions.append(Solution(line, ("one.png",), question, steps, judgements, source, "writer"))
    numbers = {"model": "model", "benchmark": "benchmark.jsonl"}
    numbers |= report(judged_steps(solutions, rewards), 0, asked=CALIBRATION)
    write_evaluation(str(folder / "metrics"), numbers, solutions, rewards)
    return str(folder / "metrics"), str(folder / "images")
