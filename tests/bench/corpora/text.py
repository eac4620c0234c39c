"""Pools of text, escaped as it stands inside a JSON string: drawing from a pool makes a corpus fast."""

import json
from dataclasses import dataclass

import numpy as np

_BODIES, _ANSWERS, _QUESTIONS = 4096, 256, 1024
_MEDIAN_WORDS, _SPREAD = 24, 0.668  # of a step that is not the last one: mean 30
_ODD_WORDS = ("30°", "√2", "é", "数", "α", "≈", "\u2028", "😀", '"A"', "\\frac{1}{2}", "\\(x^2\\)", "\n")
_TEXT = """
the of to in is and are a that we which from with by for on this so as each therefore since angle
triangle circle radius diameter side length area perimeter value equal parallel perpendicular
between number image shown chart bar line graph highest lowest total percentage difference figure
label option answer question given need find calculate observe identify compare count objects color
shape left right above below region first second next finally following information according table
row column year country population sum product ratio equation function slope point intersect vertex
degrees theorem substitute simplify solve 12 3.5 180 90 45 60 = + - x y f(x) AB BC ABC
"""
_WORDS = _TEXT.split()


@dataclass(frozen=True)
class Pool:
    """Texts to draw from."""

    bodies: list[bytes]  # steps
    answers: list[bytes]  # last steps
    questions: list[bytes]


def make_pool(rng: np.random.Generator, text_factor: int = 1) -> Pool:
    """A pool; its steps are ``text_factor`` times as long as the real ones."""
    lengths = rng.lognormal(np.log(_MEDIAN_WORDS), _SPREAD, _BODIES)
    words = np.clip(np.rint(lengths), 4, 200).astype(int) * text_factor
    return Pool(
        [_escaped(rng, _sentence(rng, int(number))) for number in words],
        [_escaped(rng, f"Final answer: {_sentence(rng, int(rng.integers(1, 4)))}") for _ in range(_ANSWERS)],
        [_escaped(rng, _sentence(rng, int(rng.integers(8, 40)))) for _ in range(_QUESTIONS)],
    )


def _sentence(rng: np.random.Generator, words: int) -> str:
    chosen = [_WORDS[place] for place in rng.integers(0, len(_WORDS), words)]
    if rng.random() < 0.3:
        chosen[int(rng.integers(0, words))] = _ODD_WORDS[int(rng.integers(0, len(_ODD_WORDS)))]
    return " ".join(chosen).strip() or "so"


def _escaped(rng: np.random.Generator, text: str) -> bytes:
    # Both ways of writing non-ASCII text are met in the wild.
    return json.dumps(text, ensure_ascii=bool(rng.random() < 0.1))[1:-1].encode()
