"""What an evaluation may do in its own way or in that of the paper's code: its prompt and its threshold.

bisieve.json, else options and family ──▶ the model's own format ──▶ --prompt training, or paper-eval
"""

from typing import Any, NamedTuple

from bisieve.errors import TrainingError
from bisieve.prompt import MARKER
from ray_train.evaluation.paper_eval import paper_eval_format
from ray_train.model.card import CARD
from ray_train.model.prompt_format import PromptFormat

TRAINING, PAPER_EVAL = PROMPTS = ("training", "paper-eval")
CALIBRATION, TEST = THRESHOLDS = ("calibration", "test")  # what the threshold is chosen on


class RewardTokens(NamedTuple):
    """The token at which a reward is read, and the two whose probabilities are compared there."""

    marker: str = MARKER
    positive: str = "Yes"
    negative: str = "No"


OWN_TOKENS = RewardTokens()  # of the models that bisieve trains


def prompt_of(format: PromptFormat, prompt: str) -> PromptFormat:
    """Return ``format``, a model's own, as ``--prompt`` wants it."""
    return paper_eval_format(format) if prompt == PAPER_EVAL else format


def format_in(card: dict[str, Any], folder: str) -> PromptFormat:
    """Return the format in the card of the model in ``folder``; `TrainingError` where it is none of ours."""
    try:
        return PromptFormat(**card["prompt_format"])
    except TypeError as error:
        raise TrainingError(
            f"a prompt_format of this version of bisieve in {CARD} of {folder}", str(error), "check --model"
        ) from error
