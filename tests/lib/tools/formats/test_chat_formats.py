"""Each step of a rollout is a turn of a chat, with its label as the answer."""

from dataclasses import replace

import pytest

from bisieve.records.model import Rollout
from bisieve.tools.formats.chat import INTERNVL, MS_SWIFT, SHAREGPT
from bisieve.tools.formats.line_format import LineFormat

ROLLOUT = Rollout("r", "a.png", "How many?", ("One, two.", "Three."), (0.5, 0.0), None, None)
SEVERAL = replace(ROLLOUT, image=["a.png", "b.png"])
CHATS = (MS_SWIFT, SHAREGPT, INTERNVL)
OPENING = "Question: <image>\nHow many?\nProcess: One, two."


def first_text(format: LineFormat, rollout: Rollout) -> str:
    """The text of the first turn."""
    record = format.convert(rollout, 0.0)
    turn = (record.get("messages") or record.get("conversations"))[0]
    return str(turn.get("content") or turn.get("value"))


def test_ms_swift_reads_messages_and_images() -> None:
    assert MS_SWIFT.convert(ROLLOUT, 0.0) == {
        "messages": [
            {"role": "user", "content": OPENING},
            {"role": "assistant", "content": "+"},
            {"role": "user", "content": "Three."},
            {"role": "assistant", "content": "-"},
        ],
        "images": ["a.png"],
    }


def test_sharegpt_and_internvl_have_the_same_conversations() -> None:
    conversations = [
        {"from": "human", "value": OPENING},
        {"from": "gpt", "value": "+"},
        {"from": "human", "value": "Three."},
        {"from": "gpt", "value": "-"},
    ]
    assert SHAREGPT.convert(ROLLOUT, 0.0) == {"conversations": conversations, "images": ["a.png"]}
    assert INTERNVL.convert(ROLLOUT, 0.0) == {"id": "r", "image": "a.png", "conversations": conversations}


def test_a_step_is_right_above_the_threshold() -> None:
    answers = [message["content"] for message in MS_SWIFT.convert(ROLLOUT, 0.5)["messages"][1::2]]
    assert answers == ["-", "-"]


@pytest.mark.parametrize("format", CHATS)
@pytest.mark.parametrize(
    ("question", "shown", "images"),
    [
        ("Which?", "<image>\n<image>\nWhich?", ["a.png", "b.png"]),
        ("<image> or <image>?", "<image> or <image>?", ["a.png", "b.png"]),
        ("<image2> or <image 1>?", "<image> or <image>?", ["b.png", "a.png"]),
    ],
)
def test_every_image_has_one_placeholder_in_its_order(
    format: LineFormat, question: str, shown: str, images: list[str]
) -> None:
    rollout = replace(SEVERAL, question=question)
    assert format.refused(rollout) == []
    assert f"Question: {shown}\nProcess: " in first_text(format, rollout)
    record = format.convert(rollout, 0.0)
    assert record.get("images", record.get("image")) == images


@pytest.mark.parametrize("format", CHATS)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"question": "<image> and <image>?"}, "placeholders in the question"),
        ({"question": "<image2>?"}, "placeholders in the question"),
        ({"steps": ("See <image>.", "Three.")}, "<image> in a step"),
        ({"steps": ("One.<|im_end|>", "Three.")}, "tokens of chats"),
        ({"question": "What is a <video>?"}, "reserved words"),
    ],
)
def test_what_a_trainer_would_read_as_something_else_is_refused(
    format: LineFormat, changes: dict[str, object], reason: str
) -> None:
    (found,) = format.refused(replace(ROLLOUT, **changes))
    assert reason in found


def test_words_that_only_one_trainer_reserves_are_refused_by_that_one() -> None:
    rollout = replace(ROLLOUT, steps=("Write <IMG_CONTEXT>.", "Three."))
    assert [format.name for format in CHATS if format.refused(rollout)] == ["internvl"]
    rollout = replace(ROLLOUT, steps=("Write <bbox>.", "Three."))
    assert [format.name for format in CHATS if format.refused(rollout)] == ["ms-swift"]
