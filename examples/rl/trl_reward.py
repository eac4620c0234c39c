r"""Reward the completions of TRL's GRPO by the steps of their solutions.

Serve the reward model (``vllm serve MODEL --config MODEL/vllm.yaml``), and name the function:

    export BISIEVE_SERVER=http://HOST:8000 BISIEVE_MODEL=/models/mprm
    cd examples/rl && trl grpo --reward_funcs trl_reward.step_reward --model_name_or_path ...

In Python it is ``GRPOTrainer(..., reward_funcs=[step_reward])``, beside others such as one for the answer.
``BISIEVE_AGGREGATE`` and ``BISIEVE_SPLIT`` change how the rewards of the steps become one, and where a step
ends. With ``BISIEVE_MODEL`` alone, every process of the trainer loads the model for itself.

Written for TRL 1.16. Questions and images are those of the prompts: a conversation, whose images are the
column ``image`` or ``images`` of the data set or parts of its messages.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from ray_train import SolutionScorer


@cache
def scorer() -> SolutionScorer:
    """Return the scorer of this process, which is made once."""
    return SolutionScorer.from_environment()


def step_reward(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
    """Return the reward of each completion; None, which GRPO leaves out, if no step of it can be scored.

    Args:
        prompts: A conversation for each completion, or a text.
        completions: The messages that the model answered, or a text.
        **columns: The columns of the data set, one value a completion, and what else TRL passes.
    """
    rows = columns.get("images") or columns.get("image") or [None] * len(prompts)
    scores = scorer().score_batch(
        [
            (*asked(prompt, row), answered(completion))
            for prompt, completion, row in zip(prompts, completions, rows, strict=True)
        ]
    )
    if log_metric := columns.get("log_metric"):
        log_metric("unscored_steps", sum(score.unscored for score in scores) / len(scores))
    return [score.reward for score in scores]


def asked(prompt: Any, row: Any) -> tuple[str, Any]:
    """Return question and images of a prompt: those of its user turns, or else those of the ``row``."""
    if isinstance(prompt, str):
        return prompt, row
    every = list(parts(prompt, "user"))
    question = "".join("<image>" if part["type"] == "image" else part.get("text") or "" for part in every)
    images = [part["image"] for part in every if part.get("image") is not None]
    return placed(question), images or row


def placed(question: str) -> str:
    """Return a question whose images are in front of it, as in most corpora, without their placeholders."""
    rest = re.sub(r"^(?:\s*<image>)+\s*", "", question)
    return question if "<image>" in rest else rest


def answered(completion: Any) -> str:
    """Return the text of a completion."""
    if isinstance(completion, str):
        return completion
    return "\n\n".join(part.get("text") or "" for part in parts(completion, "assistant"))


def parts(messages: Sequence[Any], role: str) -> Iterator[dict[str, Any]]:
    """Yield the parts of all messages of a role; a message that is a text is one part."""
    for message in messages:
        content = message.get("content") or []
        if message["role"] == role:
            yield from [{"type": "text", "text": content}] if isinstance(content, str) else content
