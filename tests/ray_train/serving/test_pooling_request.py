"""Requests to `/pooling` are read as vLLM reads them with a model's chat template."""

import json
from typing import Any

import pytest
from PIL import Image
from support.served_model import as_png, data_url

from ray_train.model.serving_files import chat_messages, user_parts
from ray_train.serving.pooling_request import models_answer, pooling_answer, pooling_request
from ray_train.serving.question import Question, RefusedError, Served

PICTURES = [as_png(Image.new("RGB", (8, 8), colour)) for colour in ("red", "green", "blue")]
PARTS = [{"type": "image_url", "image_url": {"url": data_url(each)}} for each in PICTURES]
ONE = [{"type": "text", "text": "One."}]


def parsed(body: Any, served: Served) -> Question:
    return pooling_request(json.dumps(body).encode(), served, 10_000, 8)


def request(user: Any, assistant: Any = ONE, **others: Any) -> dict[str, Any]:
    roles = (("user", user), ("assistant", assistant))
    messages = [{"role": role, "content": content} for role, content in roles]
    return {"model": "models/mprm", "task": "token_classify", "messages": messages, **others}


@pytest.mark.parametrize(
    ("question", "number"),
    [
        ("How many?", 0), ("How many?", 1), ("<image>\nHow many?", 1), ("Is <image2> above <image1>?", 2),
        ("How many?", 3), ("<image1>\nIs <image1> <image1>?", 1), ("<image>\nIs <image> it?", 1),
        ("<image>\n<image>\nIs <image 1> it?", 1), ("Is it <image>", 1), ("Which?\n<image>\n<image>", 2),
    ],
)  # fmt: skip
def test_what_a_client_sends_is_the_prompt_that_it_means(question: str, number: int, served: Served) -> None:
    steps = ["There are <image> 3.", "So 3."]
    format = served.format
    parts = user_parts(format, question, number)
    asked = parsed({**request([]), "messages": chat_messages(parts, steps, PARTS)}, served)
    assert format.render(asked.question, steps, number) == format.render(question, steps, number)
    order = [asked.images[place] for place in format.image_order(asked.question, number)]
    assert order == [PICTURES[place] for place in format.image_order(question, number)]


def test_a_string_is_one_part(served: Served) -> None:
    asked = parsed(request("How many?", "One."), served)
    assert (asked.question, asked.solutions) == ("How many?", (("One.",),))


def text(*texts: str) -> list[Any]:
    return [{"type": "text", "text": each} for each in texts]


@pytest.mark.parametrize(
    ("body", "status", "found"),
    [
        (request("Why?") | {"task": None}, 400, "$.task"),
        (request("Why?") | {"task": "embed"}, 400, "Invalid enum value 'embed'"),
        ({"messages": []}, 400, "missing required field `task`"),
        (request("Why?", modell="m"), 400, "did you mean model?"),
        (request("Why?", use_activation=False), 400, "use_activation false"),
        (request("Why?") | {"model": "other"}, 404, "expected the model models/mprm; found 'other'"),
        (request("Why?") | {"messages": [{"role": "system", "content": "Be brief."}]}, 400, "roles system"),
        (request("Why?", PARTS[:1]), 400, "found an image"),
        (request("Why?", []), 422, "at least one step"),
        (request(text("Is <image> it?")), 422, "the text <image>"),
        (request([*PARTS[:1], *text("Is "), *PARTS[:1]]), 400, "before the text, or all inside it"),
        (request([*text("Is <", "image> or "), *PARTS[:1]]), 422, "found both"),
        (request([*PARTS[:1], *text("Is it\n<", "image>")]), 422, "no line that is only <image>"),
        (request(text("Why?"), text("A <prm>")), 422, "found '<prm>'"),
        (request("Why?", text(*"ABCDEFGHI")), 413, "at most 8 steps"),
        (request([{"type": "audio"}]), 400, "Invalid value 'audio'"),
        (request([{"type": "image_url", "image_url": {"url": "ftp://h/a"}}]), 422, "a URL with ftp:"),
        (request("Why?", mm_processor_kwargs={"max_patches": 12}), 422, "max_patches 6; found 12"),
    ],
)
def test_what_the_template_refuses_is_refused_by_name(
    body: Any, status: int, found: str, served: Served
) -> None:
    with pytest.raises(RefusedError) as refused:
        parsed(body, served)
    assert found in str(refused.value)
    assert refused.value.status == status


def test_image_options_may_be_those_that_the_model_has_anyway(served: Served) -> None:
    own = {"max_patches": 3, "use_fast": False}
    assert parsed(request([*PARTS[:2], *text("Why?")], mm_processor_kwargs=own), served).question == "Why?"


def test_the_answer_is_that_of_vllm(served: Served) -> None:
    answer = pooling_answer([0.25, 0.5], served)
    assert answer["data"] == [{"index": 0, "object": "pooling", "data": [[0.25], [0.5]]}]
    assert (answer["object"], answer["model"]) == ("list", "models/mprm")
    with pytest.raises(RefusedError, match="at most 512 tokens; found more: only 1 of its steps fit"):
        pooling_answer([0.25, float("nan")], served)
    (model,) = models_answer(served)["data"]
    assert (model["id"], model["root"], model["max_model_len"]) == ("models/mprm", "/models/mprm", 512)
