"""Warn of an answer about models that have learned no more than where in a solution errors are.

Where all the data give no more than the position of a step alone, a small fraction gives as much, but that
means nothing. The AUC shows this, whatever the metric of the sweep: it needs no threshold.
"""

from collections.abc import Sequence
from dataclasses import replace

from ray_train.sweeps.answer import Answer, Estimate

CHANCE = 0.5  # AUC of rewards that are drawn at random


def with_warnings(
    answers: Sequence[Answer], by_auc: Sequence[Answer], position: float | None
) -> list[Answer]:
    """Return the answers, each with a warning where it means nothing.

    Args:
        answers: Answers by the metric of the sweep.
        by_auc: Answers by the AUC.
        position: AUC of the position alone; None if it is undefined.
    """
    found = {answer.objective: answer.full for answer in by_auc}
    return [
        replace(answer, warning=_warning(auc, position)) if answer.full and auc else answer
        for answer in answers
        for auc in (found.get(answer.objective),)
    ]


def _warning(auc: Estimate, position: float | None) -> str:
    by, level = "chance", CHANCE
    if position is not None and position > CHANCE:
        by, level = "the position of a step alone", position
    if auc.low > level:
        return ""
    said = f"all the data give an auc of {auc.value:.3f} ({auc.low:.3f}…{auc.high:.3f})"
    if auc.value > level:
        return (
            f"{said}, not surely above the {level:.3f} of {by}: such models may have learned nothing, and "
            "then the answer means nothing"
        )
    return (
        f"{said}, not above the {level:.3f} of {by}: such models have learned nothing, so the answer means "
        "nothing"
    )
