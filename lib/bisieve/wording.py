"""Numbers with their nouns."""


def counted(number: int, noun: str) -> str:
    """As "1 step", "0 steps" or "12000 steps"."""
    return f"{number} {noun}{'s' * (number != 1)}"
