"""Ids of what a rollout is about: hashes that stand for its images and its question."""

from typing import TypeAlias

import xxhash

from bisieve import records

# What one record says of its rollout's prompt: a hash of its images and one of its question, int64, and the
# name of both; None where it says nothing.
PromptIds: TypeAlias = tuple[int | None, int | None, str | None]


def prompt_ids(image: str | list[str] | None, question_orig: str | None, question: str | None) -> PromptIds:
    """The ids of a prompt, from a record's fields."""
    images = "\0".join(records.images_of(image)).encode()
    asked = records.question_of(question_orig, question).encode()
    both = _named(images, asked) if images and asked else None
    return _number(images), _number(asked), both


def question_id(image: str | list[str], question: str) -> str:
    """Names a prompt: rollouts with the same images and question share it."""
    images = image if isinstance(image, str) else "\0".join(image)
    return _named(images.encode(), question.encode())


def _named(images: bytes, question: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(b"%b\0%b" % (images, question))


def _number(text: bytes) -> int | None:
    return xxhash.xxh3_64_intdigest(text) - 2**63 if text else None
