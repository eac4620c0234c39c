"""The errors a user may see: few, typed, picklable, one line each.

Every error says what was expected, what was found and what to do.  All three parts stay in
``args``, so an error survives the pickling between Spark, Ray and the driver unchanged.  What a store or a
parser said may quote a URL: whatever secret one carries is masked, as the last line of defence.
"""

from bisieve._redact import without_secrets


class BisieveError(Exception):
    """Base of all errors that are for the user to fix; shown as one line, never as a traceback."""

    exit_code = 1

    def __init__(self, expected: str, found: str, hint: str) -> None:
        super().__init__(*(without_secrets(str(part)) for part in (expected, found, hint)))

    def __str__(self) -> str:
        expected, found, hint = self.args
        line = f"expected {expected}; found {found}; {hint}"
        return " ".join(line.split())


class UsageError(BisieveError):
    """An option, or a combination of options, that cannot be carried out."""

    exit_code = 2


class StorageError(BisieveError):
    """A URL that cannot be listed, read or written."""


class DiskError(StorageError):
    """A disk that is full, read-only or forbidden: no new try can help."""


class CorpusError(BisieveError):
    """Shards from which no index can be made."""


class IndexUnusableError(BisieveError):
    """An index that is missing, of another format, or no longer true of its shards."""


class GateError(BisieveError):
    """A version of an index that a quality gate does not let pass."""


class ImageError(BisieveError):
    """An image that is missing, unreadable or outside the image root."""


class TrainingError(BisieveError):
    """A training or evaluation run that cannot start, go on or be resumed."""


class PreemptedError(BisieveError):
    """A run that was told to stop before its end; the same command goes on with it."""

    exit_code = 143  # 128 + SIGTERM, as of any program that SIGTERM ended: schedulers tell it from a failure


class InterruptedRunError(PreemptedError):
    """A run that Ctrl-C stopped before its end; the same command goes on with it."""

    exit_code = 130  # 128 + SIGINT
