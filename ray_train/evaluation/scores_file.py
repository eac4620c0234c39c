"""``scores.jsonl``: every solution of an evaluation with its steps, judgements, rewards and verdicts.

The file is complete in itself: the question, the names of its images and the text of all steps are in it, so
that results can be read, compared and computed again without the benchmark and without the model.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from bisieve.errors import TrainingError
from bisieve.io import storage
from bisieve.io.urls import canonical, join
from ray_train.evaluation.benchmark import Solution
from ray_train.evaluation.metrics import Rewards
from ray_train.evaluation.thresholds import in_calibration_half, is_reported
from ray_train.registry.files import METRICS
from ray_train.registry.promote import require_evaluation

SCORES = "scores.jsonl"
_NEEDED = ("model", "threshold", "threshold_on", "seed", "steps", "sources", "position_baseline")


class ScoredSolution(msgspec.Struct, frozen=True):
    """One line of the file."""

    line: int  # of the benchmark
    data_source: str
    policy_model: str
    image: list[str]
    question: str
    steps: list[str]
    process_correctness: list[int]  # one per step: 1 right, 0 neutral, -1 wrong
    rewards: list[float]  # one per step, without trailing steps that were not scored
    verdicts: list[bool]  # one per reward: at or above the threshold
    reported: bool  # False: in the calibration half, on which the threshold was chosen

    @property
    def solution(self) -> Solution:
        """The solution as it was in the benchmark."""
        return Solution(
            self.line, tuple(self.image), self.question, tuple(self.steps), tuple(self.process_correctness),
            self.data_source, self.policy_model,
        )  # fmt: skip


def write_evaluation(
    output: str, numbers: dict[str, Any], solutions: Sequence[Solution], rewards: Rewards
) -> None:
    """Write ``scores.jsonl`` and then ``metrics.json`` into the folder ``output``."""
    half = in_calibration_half([each.question_key for each in solutions], numbers["seed"])
    reported = is_reported(half, numbers["threshold_on"]).tolist()
    lines = [
        ScoredSolution(
            each.line, each.source, each.policy, list(each.images), each.question, list(each.steps),
            list(each.judgements), list(scored), [reward >= numbers["threshold"] for reward in scored],
            its_steps_are,
        )
        for each, scored, its_steps_are in zip(solutions, rewards, reported, strict=True)
    ]  # fmt: skip
    storage.write_bytes(join(output, SCORES), msgspec.json.Encoder().encode_lines(lines))
    document = msgspec.json.format(msgspec.json.encode(numbers), indent=2)
    storage.write_bytes(join(output, METRICS), document + b"\n")


def read_evaluation(url: str) -> tuple[dict[str, Any], list[ScoredSolution]]:
    """Read what `write_evaluation` wrote.

    Args:
        url: The folder, or its ``metrics.json``.

    Returns:
        The metrics, and the scored solutions.

    Raises:
        TrainingError: A file is not one of this version of ``bisieve evaluate``, or the two files are not
            of the same evaluation.
        StorageError: A file cannot be read.
    """
    folder = canonical(url).removesuffix(f"/{METRICS}")
    require_evaluation(join(folder, METRICS))
    numbers, scores = (storage.read_bytes(join(folder, name)) for name in (METRICS, SCORES))
    try:
        metrics = msgspec.json.decode(numbers, type=dict[str, Any])
        if missing := [name for name in _NEEDED if name not in metrics]:
            raise ValueError(f"no {missing[0]} in {METRICS}")
        solutions = msgspec.json.Decoder(ScoredSolution).decode_lines(scores)
    except (msgspec.MsgspecError, ValueError) as error:
        raise TrainingError(
            f"{METRICS} and {SCORES} of bisieve evaluate at {folder}", str(error),
            "run bisieve evaluate again with this version",
        ) from error  # fmt: skip
    if not _belong_together(metrics, solutions):
        raise TrainingError(
            f"{METRICS} and {SCORES} of one evaluation at {folder}", "those of two, or changed ones",
            "run bisieve evaluate again",
        )  # fmt: skip
    return metrics, solutions


def _belong_together(numbers: dict[str, Any], scored: Sequence[ScoredSolution]) -> bool:
    """Return whether the reported steps are as many as the metrics say, judged by the same threshold."""
    judged = sum(
        judgement != 0
        for each in scored
        if each.reported
        for judgement in each.process_correctness[: len(each.rewards)]
    )
    return judged == numbers["steps"] and all(
        len(each.rewards) <= len(each.steps) == len(each.process_correctness)
        and each.verdicts == [reward >= numbers["threshold"] for reward in each.rewards]
        for each in scored
    )
