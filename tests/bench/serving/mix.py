"""The requests of the load test: good ones with the rewards of a scorer, bad ones with their status."""

import base64
import io
import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ray_train.evaluation.step_scorer import StepScorer

LIMITS = {"max-body": 0.5, "max-pixels": 1_000_000, "max-steps": 64}  # of the server, below those by default
_SIDES = ((64, 64), (120, 48), (48, 120), (200, 200), (400, 300))
_QUESTIONS = 24


@dataclass(frozen=True)
class Asked:
    """A request, and its right answer."""

    name: str  # of its kind
    path: str
    body: bytes
    status: int
    rewards: tuple[tuple[float, ...], ...] = ()  # of each solution of a good one
    method: str = "POST"
    chunked: bool = False  # sent without its length
    gone: bool = False  # the client leaves before it has sent all; there is no answer


def good_requests(model: str, seed: int) -> list[Asked]:
    """Requests of all forms with what a `StepScorer` gives for them."""
    scorer, random = StepScorer(model), np.random.default_rng(seed)
    made: list[Asked] = []
    for number in range(_QUESTIONS):
        images = [_picture(random, _SIDES[(number + place) % len(_SIDES)]) for place in range(number % 3)]
        question = f"How many bars has chart {number}?"
        solutions = [
            [f"Bar {step} is {random.integers(100)} high." for step in range(1 + (number + other) % 5)]
            for other in range((1, 4, 9)[number % 3])
        ]
        rewards = scorer.score_batch([(question, images, steps) for steps in solutions])
        encoded = [_data_url(image) for image in images]
        common = {"question": question, "image": encoded}
        made += [
            _good("steps", "/score", {**common, "steps": solutions[0]}, rewards[:1]),
            _good("candidates", "/score", {**common, "candidates": solutions}, rewards),
            _good("messages", "/pooling", _messages(question, encoded, solutions[0]), rewards[:1]),
        ]
    return made


def bad_requests() -> list[Asked]:
    """Requests of all kinds that are refused, and one whose client leaves."""
    steps, noise = ["There are 3."], _png(Image.effect_noise((200, 200), 50).convert("RGB"))
    cut = base64.b64encode(noise[: len(noise) // 2]).decode()
    bomb = base64.b64encode(_header_only(50_000)).decode()
    large = json.dumps({"question": "Why?", "steps": ["x" * 600_000]}).encode()
    bodies: list[tuple[str, dict[str, Any], int]] = [
        ("unknown field", {"question": "Why?", "stepz": steps}, 400),
        ("wrong type", {"question": 3, "steps": steps}, 400),
        ("no solution", {"question": "Why?"}, 400),
        ("no steps", {"question": "Why?", "steps": []}, 422),
        ("blank step", {"question": "Why?", "steps": [" "]}, 422),
        ("marker", {"question": "Why?", "steps": ["A <prm> in it."]}, 422),
        ("too many steps", {"question": "Why?", "steps": steps * 65}, 413),
        ("URL", {"question": "Why?", "steps": steps, "image": "http://127.0.0.1:1/a.png"}, 422),
        ("no base64", {"question": "Why?", "steps": steps, "image": "charts/1.png"}, 422),
        ("no image", {"question": "Why?", "steps": steps, "image": "AAAA"}, 422),
        ("truncated image", {"question": "Why?", "steps": steps, "image": cut}, 422),
        ("bomb", {"question": "Why?", "steps": steps, "image": bomb}, 413),
    ]
    return [
        *(Asked(name, "/score", json.dumps(body).encode(), status) for name, body, status in bodies),
        Asked("no JSON", "/score", b'{"question": "Why?', 400),
        Asked("no JSON", "/pooling", b"\xff\xfe", 400),
        Asked("system message", "/pooling", _system_message(), 400),
        Asked("large body", "/score", large, 413),
        Asked("large body in chunks", "/score", large, 413, chunked=True),
        Asked("no such path", "/scores", b"{}", 404),
        Asked("wrong method", "/score", b"", 405, method="GET"),
        Asked("client leaves", "/score", large[:1000], 0, gone=True),
    ]


def is_right(asked: Asked, status: int, body: bytes, tolerance: float) -> bool:
    """Whether an answer is the one to ``asked``; an error must be JSON with its three parts."""
    if status != asked.status:
        return False
    answer = json.loads(body)
    if status != 200:
        return {"expected", "found", "hint"} <= set(answer["error"])
    found = list(_rewards(answer))
    return len(found) == len(asked.rewards) and all(
        len(one) == len(other) and np.allclose(one, other, rtol=0, atol=tolerance)
        for one, other in zip(found, asked.rewards, strict=True)
    )


def _rewards(answer: dict[str, Any]) -> Iterator[Sequence[float]]:
    if "data" in answer:
        yield [reward for (reward,) in answer["data"][0]["data"]]
    elif "candidates" in answer:
        yield from (each["rewards"] for each in answer["candidates"])
    else:
        yield answer["rewards"]


def _good(name: str, path: str, body: dict[str, Any], rewards: Sequence[Sequence[float]]) -> Asked:
    return Asked(name, path, json.dumps(body).encode(), 200, tuple(map(tuple, rewards)))


def _messages(question: str, images: Sequence[str], steps: Sequence[str]) -> dict[str, Any]:
    user = [{"type": "image_url", "image_url": {"url": each}} for each in images]
    texts = [{"type": "text", "text": step} for step in steps]
    messages = [
        {"role": "user", "content": [*user, {"type": "text", "text": question}]},
        {"role": "assistant", "content": texts},
    ]
    return {"task": "token_classify", "messages": messages}


def _system_message() -> bytes:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    return json.dumps({"task": "token_classify", "messages": messages}).encode()


def _picture(random: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    pixels = random.integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
    return Image.fromarray(pixels).resize(size)


def _png(image: Image.Image) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    return encoded.getvalue()


def _data_url(image: Image.Image) -> str:
    return f"data:image/png;base64,{base64.b64encode(_png(image)).decode()}"


def _header_only(side: int) -> bytes:
    """A PNG of a few bytes that says that it is ``side`` pixels wide and high."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
