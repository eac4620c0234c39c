r"""The text that an MPRM reads: a question and its steps, with a marker after each step.

The paper trains on ``Question: …\nProcess: step<prm>\n\nstep<prm>`` (paper App. C); the reward of a step is
read at the marker after it. A question may say with placeholders where its images are.
"""

import re
from collections.abc import Sequence

MARKER = "<prm>"
STEP_SEPARATOR = "\n\n"

# <image>, <image1>, <image 1>, <image_1>, <image-1>
PLACEHOLDER = re.compile(r"<image(?:[ _-]?([0-9]+))?>", re.IGNORECASE)


def process_text(
    question: str, steps: Sequence[str], marker: str = MARKER, separator: str = STEP_SEPARATOR
) -> str:
    """Return the text of one rollout, with ``marker`` after each step and ``separator`` between steps.

    ``question`` and ``steps`` are used unchanged; callers pass them stripped.
    """
    marked = separator.join(step + marker for step in steps)
    return f"Question: {question}\nProcess: {marked}"


def placeholders(question: str, num_images: int) -> list[int] | None:
    """Return the image number (from 0) of each placeholder of ``question``, from left to right.

    Placeholders without a number refer to the images in order. None unless every image has exactly one
    placeholder, and all or none of them are numbered.
    """
    found = PLACEHOLDER.findall(question)
    if not found or len(found) != num_images:
        return None
    if not any(found):
        return list(range(num_images))
    numbers = [int(number) - 1 if number else -1 for number in found]
    return numbers if sorted(numbers) == list(range(num_images)) else None
