"""What a command prints where stdout is no terminal: how wide its lines may be, and which go on."""

import re

from bisieve._text import WIDTH, width_without_paths


def too_wide(text: str) -> list[str]:
    """Return the lines that are wider than a screen, not counting paths and URLs."""
    return [line for line in text.splitlines() if width_without_paths(line) > WIDTH]


def joined(text: str) -> str:
    """Return a text with each line that goes on in the next one as a single line again."""
    return re.sub(r"\n    (?=\S)", " ", text)
