"""Formats of chats: each step is a turn of the user, its label the answer.

    user        <image>                   one for each image, in front or where the question has it
                Question: …
                Process: the first step
    assistant   +                         - for a wrong step
    user        the next step
    assistant   -

VisualPRM's training data has this form too: trainers of chats learn the answers alone, so they train a
process reward model without knowing of one. Its score of a step is P(+) against P(-).
"""

from collections.abc import Callable

from bisieve.records.model import Rollout
from bisieve.records.prompt import PLACEHOLDER, placeholders
from bisieve.tools.formats.line_format import Check, LineFormat, Record

RIGHT, WRONG = "+", "-"
IMAGE = "<image>"

# What trainers read as media, and tokens that delimit turns and images in the models' own formats.
_MEDIA = ("<video>", "<audio>")
_CHAT_TOKENS = (
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>",
    "<image_soft_token>", "<|begin_of_text|>", "<|eot_id|>",
)  # fmt: skip
_INTERNVL_TOKENS = ("<img>", "</img>", "<IMG_CONTEXT>")
_SWIFT_TOKENS = ("<bbox>", "<ref-object>", "<cot-process>", "<start-image>", "<end-image>")


def turns(rollout: Rollout, threshold: float) -> list[tuple[str, str]]:
    """Return (text of the user, answer) for each step.

    Args:
        rollout: The rollout; its placeholders match its images, or there are none (`chat_checks`).
        threshold: A step is right if its MC score is greater.
    """
    first, *others = rollout.steps
    opening = f"Question: {_with_slots(rollout)}\nProcess: {first}"
    answers = [RIGHT if score > threshold else WRONG for score in rollout.scores]
    return list(zip((opening, *others), answers, strict=True))


def images_in_order(rollout: Rollout) -> list[str]:
    """Return the image names in the order in which `turns` shows them: that of numbered placeholders."""
    order = placeholders(rollout.question, len(rollout.images))
    return [rollout.images[place] for place in order or range(len(rollout.images))]


def _with_slots(rollout: Rollout) -> str:
    """Return the question with one `IMAGE` for each image."""
    if PLACEHOLDER.search(rollout.question):
        return PLACEHOLDER.sub(IMAGE, rollout.question)
    return f"{IMAGE}\n" * len(rollout.images) + rollout.question


def has_soft_scores(rollout: Rollout) -> bool:
    """Return whether a step's MC score is neither 0 nor 1."""
    return any(0 < score < 1 for score in rollout.scores)


def has_counts(rollout: Rollout) -> bool:
    """Return whether the steps have K and N."""
    return rollout.mc_total is not None


def has_any(*tokens: str) -> Callable[[Rollout], bool]:
    """Return a function that tells whether the question or a step has one of ``tokens``."""
    return lambda rollout: any(
        token in text for text in (rollout.question, *rollout.steps) for token in tokens
    )


def _is_unclear(rollout: Rollout) -> bool:
    has_one = PLACEHOLDER.search(rollout.question) is not None
    return has_one and placeholders(rollout.question, len(rollout.images)) is None


def _shows_image(rollout: Rollout) -> bool:
    return any(IMAGE in step for step in rollout.steps)


SOFT = Check("scores between 0 and 1, written as labels", has_soft_scores)
COUNTS = Check("counts of continuations (K, N), not written", has_counts)
CHAT_TOKENS = Check("tokens of chats, such as <|im_end|>, in the text", has_any(*_CHAT_TOKENS), True)


def chat_checks(*tokens: str) -> tuple[Check, ...]:
    """Return what no format of chats carries, and ``tokens`` that this one reads as something else."""
    return (
        Check("image placeholders in the question that do not match its images", _is_unclear, True),
        Check(f"{IMAGE} in a step, where trainers expect an image", _shows_image, True),
        CHAT_TOKENS,
        Check(f"reserved words in the text: {', '.join(tokens)}", has_any(*tokens), True),
        SOFT,
        COUNTS,
    )


def _swift(rollout: Rollout, threshold: float) -> Record:
    messages = [
        {"role": role, "content": text}
        for turn in turns(rollout, threshold)
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    return {"messages": messages, "images": images_in_order(rollout)}


def _conversations(rollout: Rollout, threshold: float) -> list[Record]:
    return [
        {"from": who, "value": text}
        for turn in turns(rollout, threshold)
        for who, text in zip(("human", "gpt"), turn, strict=True)
    ]


def _sharegpt(rollout: Rollout, threshold: float) -> Record:
    return {"conversations": _conversations(rollout, threshold), "images": images_in_order(rollout)}


def _internvl(rollout: Rollout, threshold: float) -> Record:
    """Return a record whose ``image`` is a name, or a list of names if there are several."""
    images = images_in_order(rollout)
    image = images[0] if len(images) == 1 else images
    return {"id": rollout.rollout_id, "image": image, "conversations": _conversations(rollout, threshold)}


MS_SWIFT = LineFormat(
    "ms-swift", "chats with labels as answers, for ms-swift", _swift, chat_checks(*_MEDIA, *_SWIFT_TOKENS)
)
SHAREGPT = LineFormat(
    "sharegpt", "the same as conversations, for LLaMA-Factory and others", _sharegpt, chat_checks(*_MEDIA)
)
INTERNVL = LineFormat(
    "internvl", "the same for InternVL: a folder with annotations and meta.json", _internvl,
    chat_checks(*_MEDIA, *_INTERNVL_TOKENS),
)  # fmt: skip
