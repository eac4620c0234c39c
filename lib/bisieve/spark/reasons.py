"""The reason in a report of Java or of a Python worker: one line, never a frame of a stack."""

import re

_FRAME = re.compile(r"^(at\s|\.\.\. \d+ (more|common)|File \"|Suppressed: |Driver stacktrace:)")
# What every Java that does not start says last.
_ANY_END = ("Error: Could not create the Java Virtual Machine.", "Error: A fatal exception has occurred.")
# A class of errors, in Java or in Python, and what it says.
_NAMED = re.compile(
    r"^(?:Caused by: |Exception in thread \"[^\"]*\" |: )?([\w.$]*(?:Error|Exception|Exit))(?:: (.*))?$"
)
_LONGEST = 400  # characters


def innermost(report: str) -> str:
    """Return the last error in ``report`` that has a message, else its last line; "" for an empty one."""
    lines = [line.strip() for line in report.splitlines()]
    lines = [line for line in lines if line and not _FRAME.match(line) and not line.startswith(_ANY_END)]
    named = [found for line in lines if (found := _NAMED.match(line))]
    speaking = [found for found in named if found[2] and not found[2].startswith("Traceback (most recent")]
    if speaking:
        kind, said = speaking[-1][1], speaking[-1][2]
        for found in reversed(speaking[:-1]):  # what says the same and more is the better reason
            if found[2].endswith(said):
                kind, said = found[1], found[2]
        return f"{kind.rpartition('.')[2]}: {said}"[:_LONGEST]
    if named:
        return named[-1][1].rpartition(".")[2]
    return lines[-1][:_LONGEST] if lines else ""
