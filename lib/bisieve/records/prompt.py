"""The text an MPRM reads: a question and its steps, each step closed by a marker.

The paper trains on ``Question: …\\nProcess: step<prm>\\n\\nstep<prm>`` (paper App. C); the reward of a
step is read at the marker behind it.
"""

from collections.abc import Sequence

MARKER = "<prm>"
STEP_SEPARATOR = "\n\n"


def process_text(
    question: str, steps: Sequence[str], marker: str = MARKER, separator: str = STEP_SEPARATOR
) -> str:
    """The text of one rollout, with one marker a step.

    ``question`` and ``steps`` are used as given: strip them first.
    """
    marked = separator.join(step + marker for step in steps)
    return f"Question: {question}\nProcess: {marked}"
