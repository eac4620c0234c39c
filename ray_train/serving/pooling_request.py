"""The body of ``POST /pooling``, as vLLM takes it: messages to a `Question`, and rewards to vLLM's answer.

A served model gives the same rewards as vLLM does with the model's ``vllm.yaml`` and chat template, and
refuses what that template refuses. `StepClient` asks both alike.
"""

import math
import time
import uuid
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from bisieve.records.prompt import PLACEHOLDER, placeholders
from ray_train.model.prompt_format import PromptFormat
from ray_train.serving.pictures import check_pixels, image_bytes
from ray_train.serving.question import MALFORMED, Question, RefusedError, Served, check_solutions
from ray_train.serving.score_request import decoded

_SLOT = "<image>"
_NO_MODEL = 404


class _Url(msgspec.Struct, forbid_unknown_fields=True):
    url: str


class _Text(msgspec.Struct, forbid_unknown_fields=True, tag="text"):
    text: str


class _Image(msgspec.Struct, forbid_unknown_fields=True, tag="image_url"):
    image_url: _Url


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    role: str
    content: list[_Text | _Image] | str

    @property
    def parts(self) -> list[_Text | _Image]:
        """Return the parts of the content; a string is one text."""
        return [_Text(self.content)] if isinstance(self.content, str) else self.content


class PoolingBody(msgspec.Struct, forbid_unknown_fields=True):
    """What ``POST /pooling`` takes."""

    messages: list[_Message]
    task: Literal["token_classify"]
    model: str | None = None
    mm_processor_kwargs: dict[str, Any] | None = None
    use_activation: bool | None = None
    encoding_format: Literal["float"] | None = None


def pooling_request(body: bytes, served: Served, max_pixels: int, max_steps: int) -> Question:
    """Return the question and the solution in ``body``.

    Raises:
        RefusedError: It is malformed, too large, for another model, or cannot be scored.
    """
    given = decoded(body, PoolingBody, "/pooling")
    if given.model not in (None, served.name):
        raise RefusedError(
            f"the model {served.name}", repr(given.model), "GET /v1/models names it", _NO_MODEL
        )
    if given.use_activation is False:
        raise RefusedError("rewards as probabilities", "use_activation false", "leave it out", MALFORMED)
    user, assistant = _two(given.messages)
    if any(isinstance(part, _Image) for part in assistant):
        raise RefusedError(
            "texts as parts of the assistant", "an image", "images belong to the user", MALFORMED
        )
    steps = tuple(part.text.strip() for part in assistant if isinstance(part, _Text))
    images = tuple(image_bytes(part.image_url.url) for part in user if isinstance(part, _Image))
    question = _question(user, served.format)
    asked = Question(question, images, (steps,))
    check_solutions(asked, served, max_steps)
    _check_options(given.mm_processor_kwargs or {}, served.format, len(images))
    check_pixels(images, max_pixels)
    return asked


def _two(messages: Sequence[_Message]) -> tuple[list[_Text | _Image], list[_Text | _Image]]:
    roles = [message.role for message in messages]
    if roles != ["user", "assistant"]:
        raise RefusedError(
            "a user message (images and question), then an assistant message (steps); no system message",
            f"roles {', '.join(roles) or 'none'}", "send these two",
            MALFORMED,
        )  # fmt: skip
    return messages[0].parts, messages[1].parts


def _question(parts: Sequence[_Text | _Image], format: PromptFormat) -> str:
    """Return the question, with a placeholder where an image part is inside it.

    Images before the first text are in front of the question; the chat template has no other way.
    """
    texts: list[str] = []
    leading = inside = 0
    for part in parts:
        if isinstance(part, _Text):
            if found := PLACEHOLDER.search(part.text):
                raise RefusedError(
                    "image parts where the images are in the question", f"the text {found[0]}",
                    "put the image there",
                )  # fmt: skip
            texts.append(part.text)
        elif texts:
            inside += 1
            texts.append(_SLOT)
        else:
            leading += 1
    question = "".join(texts).strip()
    if inside and (leading or not format.in_place):
        where = "before the text" if not format.in_place else "before the text, or all inside it"
        raise RefusedError(f"all images {where}", "others", "move the images", MALFORMED)
    if inside:
        if placeholders(question, inside) is None:
            raise RefusedError(
                "no <image> as text beside images inside the question", "both", "leave out one"
            )
        return question
    return _with_text_placeholders(question, leading, format)


def _with_text_placeholders(question: str, images: int, format: PromptFormat) -> str:
    """Return a question whose placeholders, in several parts, are text, so that they remain text.

    Where they would be read as the places of the images, a line with one more placeholder prevents it:
    numbers of placeholders and images then differ, and the line itself is removed from the prompt.
    """
    if format.without_placeholders(question) != question:
        raise RefusedError("no line that is only <image>", "one", "leave the line out")
    if format.in_place and placeholders(question, images) is not None:
        return f"{_SLOT}\n{question}"
    return question


def _check_options(given: dict[str, Any], format: PromptFormat, images: int) -> None:
    """Check that image options of a request are those that the model has for so many images anyway."""
    own = {**format.options_for(images), "use_fast": format.image_backend != "pil"}
    for name, value in given.items():
        if name not in own or own[name] != value:
            raise RefusedError(
                f"the model's own image options, {name} {own.get(name, 'left out')}", repr(value),
                "leave out mm_processor_kwargs",
            )  # fmt: skip


def pooling_answer(rewards: Sequence[float], served: Served) -> dict[str, Any]:
    """Return the answer of vLLM with the reward of each step.

    Raises:
        RefusedError: A step is beyond the length limit.
    """
    if any(map(math.isnan, rewards)):
        fits = sum(not math.isnan(reward) for reward in rewards)
        raise RefusedError(
            f"a solution of at most {served.max_length:,} tokens", f"more: only {fits} of its steps fit",
            "leave out trailing steps",
        )  # fmt: skip
    data = [{"index": 0, "object": "pooling", "data": [[reward] for reward in rewards]}]
    return {
        "id": f"pool-{uuid.uuid4().hex}", "object": "list", "created": int(time.time()),
        "model": served.name, "data": data,
    }  # fmt: skip


def models_answer(served: Served) -> dict[str, Any]:
    """Return the answer to ``GET /v1/models``."""
    model = {
        "id": served.name, "object": "model", "owned_by": "bisieve", "root": served.root,
        "run": served.run, "max_model_len": served.max_length,
    }  # fmt: skip
    return {"object": "list", "data": [model]}
