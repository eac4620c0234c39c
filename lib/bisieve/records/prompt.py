r"""The text that an MPRM reads: a question and its steps, with a marker after each step.

The paper trains on ``Question: …\nProcess: step<prm>\n\nstep<prm>`` (paper App. C); the reward of a step is
read at the marker after it.
"""

from collections.abc import Sequence

MARKER = "<prm>"
STEP_SEPARATOR = "\n\n"


def process_text(
    question: str, steps: Sequence[str], marker: str = MARKER, separator: str = STEP_SEPARATOR
) -> str:
    """Return the text of one rollout, with ``marker`` after each step and ``separator`` between steps.

    ``question`` and ``steps`` are used unchanged; callers pass them stripped.
    """
    marked = separator.join(step + marker for step in steps)
    return f"Question: {question}\nProcess: {marked}"
