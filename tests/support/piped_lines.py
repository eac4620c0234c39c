"""What a command prints where stdout is no terminal: how wide its lines may be."""

from bisieve._text import WIDTH, width_without_paths


def too_wide(text: str) -> list[str]:
    """Return the lines that are wider than a screen, not counting paths and URLs."""
    return [line for line in text.splitlines() if width_without_paths(line) > WIDTH]
