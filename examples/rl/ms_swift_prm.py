r"""Choose the samples of ms-swift by the steps of their solutions.

Serve the reward model (``vllm serve MODEL --config MODEL/vllm.yaml``), and name the plugin:

    export BISIEVE_SERVER=http://HOST:8000 BISIEVE_MODEL=/models/mprm
    swift sample --external_plugins /path/to/ms_swift_prm.py --prm_model bisieve \
        --prm_threshold 0.5 --num_return_sequences 16 --n_best_to_keep 2 --model ... --dataset ...

Samples whose reward is not above ``--prm_threshold`` are dropped, the best of the others are kept, and the
worst becomes ``rejected_response``. ``BISIEVE_AGGREGATE`` and ``BISIEVE_SPLIT`` change how the rewards of the
steps become one, and where a step ends. With ``BISIEVE_MODEL`` alone, this process loads the model.

Written for ms-swift 4.6.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from swift.rewards import PRM, prms

from ray_train import SolutionScorer

NO_REWARD = 0.0  # of a sample without a step that can be scored: dropped by any threshold from 0
IMAGES = ("image", "image_url")  # types of parts


@cache
def scorer() -> SolutionScorer:
    """Return the scorer of this process, which is made once."""
    return SolutionScorer.from_environment()


class StepPRM(PRM):  # type: ignore[misc]
    """The reward model as a plugin."""

    def __call__(
        self, infer_requests: Sequence[Any], ground_truths: Sequence[str], **others: Any
    ) -> list[float]:
        """Return the reward of each sample.

        Args:
            infer_requests: Conversations with their images; the last message is the sample.
            ground_truths: Right solution of each; not used.
            **others: What ms-swift adds, such as ``request_config``.
        """
        scores = scorer().score_batch([solution_of(request) for request in infer_requests])
        return [NO_REWARD if score.reward is None else score.reward for score in scores]


def solution_of(request: Any) -> tuple[str, Any, str]:
    """Return question, images and text of a sample."""
    known = request if isinstance(request, dict) else vars(request)
    *before, last = known["messages"]
    question = "\n\n".join(text_of(message) for message in before if message["role"] == "user")
    images = [image for message in before for image in images_of(message)]
    return placed(question), images or known.get("images"), text_of(last)


def placed(question: str) -> str:
    """Return a question whose images are in front of it, as in most corpora, without their placeholders."""
    rest = re.sub(r"^(?:\s*<image>)+\s*", "", question)
    return question if "<image>" in rest else rest


def text_of(message: dict[str, Any]) -> str:
    """Return the text of a message, whose content is a text or a list of parts."""
    content = message["content"] or ""  # None: of a call of a tool
    if isinstance(content, str):
        return content
    return "".join("<image>" if part["type"] in IMAGES else part.get("text") or "" for part in content)


def images_of(message: dict[str, Any]) -> list[Any]:
    """Return the images that the parts of a message hold; others are in the list beside the messages."""
    content = message["content"]
    parts = content if isinstance(content, list) else []
    images = [part.get(part["type"]) for part in parts if part["type"] in IMAGES]
    return [
        image["url"] if isinstance(image, dict) and "url" in image else image for image in images if image
    ]


prms["bisieve"] = StepPRM
