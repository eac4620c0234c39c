r"""Reward the rollouts of verl by the steps of their solutions.

Serve the reward model (``vllm serve MODEL --config MODEL/vllm.yaml``), and add to verl's own options:

    python -m verl.trainer.main_ppo ... \
        reward.custom_reward_function.path=/path/to/verl_reward.py \
        reward.custom_reward_function.name=compute_score \
        +reward.custom_reward_function.reward_kwargs.server=http://HOST:8000 \
        +reward.custom_reward_function.reward_kwargs.model=/models/mprm

``aggregate`` and ``split`` are given in the same way. verl passes neither the prompt nor its images to a
reward function, so each record of the data has them in ``extra_info``: ``question``, and ``images``, a list
of paths or URLs that the reward workers can read.

Written for verl 0.9, whose reward workers wait for many coroutines at the same time. They are several
processes: a server gives them one model.
"""

import asyncio
from collections.abc import Mapping
from functools import cache
from threading import Lock
from typing import Any

from bisieve.errors import UsageError
from ray_train import SolutionScorer

MAKING = Lock()  # so that it is made once for all coroutines
NO_REWARD = 0.0  # of a solution without a step that can be scored: as if it were surely wrong


@cache
def scorer(server: str, model: str, aggregate: str, split: str) -> SolutionScorer:
    """Return the scorer of a worker, which is made once."""
    return SolutionScorer.of_server(server, model, aggregate, split)


def scored(options: tuple[str, str, str, str], solution: tuple[str, Any, str]) -> Any:
    """Return the score of a solution; for a thread, since a server that is down takes seconds."""
    with MAKING:
        judge = scorer(*options)
    return judge.score(*solution)


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    server: str = "",
    model: str = "",
    aggregate: str = "mean",
    split: str = "paragraphs",
    **others: Any,
) -> dict[str, float]:
    """Return the reward of one solution, and numbers that verl logs.

    Args:
        data_source: Name of the data set.
        solution_str: Text of the solution.
        ground_truth: Right answer. It is not used: add a reward of your own for it here.
        extra_info: ``question`` and ``images`` of the record.
        server: URL of the vLLM server.
        model: Folder, URL or hub id of the model, for its tokenizer; empty: where the server has it.
        aggregate: How the rewards of the steps become one: ``mean``, ``min``, ``last``, ``product``, ``max``.
        split: Where a step ends: ``paragraphs`` or ``lines``.
        **others: What verl adds, such as the address of its own reward model.
    """
    record = extra_info or {}
    if "question" not in record:
        found = ", ".join(record) or "nothing"
        raise UsageError(f"question in extra_info of {data_source}", found, "add it, and images, to the data")
    solution = (record["question"], record.get("images"), solution_str)
    score = await asyncio.to_thread(scored, (server, model, aggregate, split), solution)
    return {
        "score": NO_REWARD if score.reward is None else score.reward,
        "steps": float(len(score.steps)),
        "unscored_steps": float(score.unscored),
    }
