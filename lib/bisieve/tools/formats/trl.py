"""TRL's stepwise supervision: ``prompt``, ``completions`` (the steps), ``labels`` (true or false).

``PRMTrainer`` (of TRL up to 1.13, in ``trl.experimental.prm`` at the end) trains a text model on it: it
reads neither images nor other columns. ``images`` is written for trainers that do.
"""

from bisieve.records.model import Rollout
from bisieve.records.prompt import PLACEHOLDER
from bisieve.tools.formats.chat import CHAT_TOKENS, COUNTS, SOFT
from bisieve.tools.formats.line_format import Check, LineFormat, Record


def _convert(rollout: Rollout, threshold: float) -> Record:
    return {
        "prompt": rollout.question,
        "completions": list(rollout.steps),
        "labels": [score > threshold for score in rollout.scores],
        "images": list(rollout.images),
    }


TRL = LineFormat(
    "trl",
    "prompt, completions and labels, for TRL's PRMTrainer, which reads no images",
    _convert,
    (
        CHAT_TOKENS,
        Check("images, which PRMTrainer does not read", lambda rollout: bool(rollout.images)),
        Check("image placeholders in the prompt, which stay there as text",
              lambda rollout: PLACEHOLDER.search(rollout.question) is not None),
        Check("steps with line breaks: set another step_separator in PRMConfig",
              lambda rollout: any("\n" in step for step in rollout.steps)),
        SOFT,
        COUNTS,
    ),
)  # fmt: skip
