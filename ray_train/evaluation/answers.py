"""The final answer of a solution, and when two answers are the same."""

import re
from decimal import Decimal

# "Final answer: 12", "**Final answer** is 12.", or \boxed{\frac{1}{2}}; the last one in a solution counts.
ANSWER = (
    r"(?i)final answer[\s*]{0,4}(?:is\b\s*:?|:)[\s*]*(.*\w.*)"
    r"|\\boxed\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})+)\}"
)


def final_answer(solution: str, pattern: str = ANSWER) -> str:
    """Return the final answer of a solution.

    Args:
        solution: Its text.
        pattern: A regular expression; the answer is the first group that is not empty in its last match.

    Returns:
        The answer, or the last line of ``solution`` if nothing matches; "" for an empty solution.
    """
    matches = list(re.finditer(pattern, solution))
    if matches:
        return next((group for group in matches[-1].groups() if group), "").strip()
    lines = solution.strip().splitlines()
    return lines[-1].strip() if lines else ""


def normalized(answer: str) -> str:
    r"""Return a form of an answer that is equal for equal answers.

    Case, spaces at the ends, a full stop, dollar signs, and one pair of parentheses or of ``\boxed{}`` do not
    matter. Numbers are compared by value, to 28 digits: 1,200 and 1200.0 are equal.
    """
    text = answer.lstrip("$* \t\n").rstrip("$*. \t\n")
    for left, right in (("\\boxed{", "}"), ("(", ")")):
        if text.startswith(left) and text.endswith(right):
            text = text[len(left) : -len(right)].strip()
    try:
        return str(Decimal(re.sub(r"(?<=[0-9]),(?=[0-9]{3})", "", text)).normalize() + 0)
    except ArithmeticError:  # it is no number
        return " ".join(text.casefold().split())


def is_same(one: str, other: str) -> bool:
    """Return whether two answers are the same; an empty answer is the same as none."""
    return bool(normalized(one)) and normalized(one) == normalized(other)
