"""The errors that a user may see: few, typed, picklable, one line each.

Every error says what was expected, what was found and what to do (the hint).  All three are in ``args``, so
an error is unchanged by pickling between Spark, Ray and the driver.  Text from a store or a parser may
contain a URL with a secret, or colours of a terminal; as the last line of defence, secrets are masked and
escape codes removed here.
"""

from bisieve._redact import without_escapes, without_secrets


class BisieveError(Exception):
    """Base of all errors that the user can fix.  Commands show them as one line, without a traceback.

    Args:
        expected: What was expected, such as "a file at URL".
        found: What was found instead.
        hint: What the user can do.
    """

    exit_code = 1

    def __init__(self, expected: str, found: str, hint: str) -> None:
        super().__init__(*(without_escapes(without_secrets(str(part))) for part in (expected, found, hint)))

    def __str__(self) -> str:
        expected, found, hint = self.args
        line = f"expected {expected}; found {found}; {hint}"
        return " ".join(line.split())


class UsageError(BisieveError):
    """Invalid option or combination of options."""

    exit_code = 2


class StorageError(BisieveError):
    """URL that cannot be listed, read or written."""


class DiskError(StorageError):
    """Local disk that is full, read-only or without permission; a retry cannot help."""


class CorpusError(BisieveError):
    """Inputs from which no index can be built: not shards, damaged, changing, or without usable rollouts.

    Also raised when Spark or the worker processes die while they read them.
    """


class IndexUnusableError(BisieveError):
    """Index that is missing, damaged or of another format, or whose shards have changed since the scan."""


class GateError(BisieveError):
    """Index version that fails a quality gate."""


class ImageError(BisieveError):
    """Image that is missing, unreadable or outside the image root."""


class TrainingError(BisieveError):
    """Training or evaluation run that cannot start, continue or be resumed."""


class PreemptedError(BisieveError):
    """Run that was asked to stop before its end; the same command resumes it."""

    exit_code = 143  # 128 + SIGTERM, by which schedulers distinguish preemption from failure


class InterruptedRunError(PreemptedError):
    """Run that Ctrl-C stopped before its end; the same command resumes it."""

    exit_code = 130  # 128 + SIGINT
