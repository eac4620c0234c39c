"""Retry policy for object stores: which errors are transient, how often and how long to retry.

There are two layers.  botocore repeats a single request that failed (500, 503, SlowDown, a connection reset,
a time-out).  `with_retries` repeats a whole read or write, for failures that botocore does not see, such as
a body that ends early.  Both log each retry (`say_retry`).  A store that refuses every request is given up
after about 25 seconds, one that accepts requests and never answers after some minutes.  Uploads of what
cannot be made again, such as a checkpoint, go on for longer (`Persistence`).
"""

import errno
import logging
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

import fsspec.config

from bisieve._redact import without_secrets
from bisieve._text import one_line
from bisieve.errors import StorageError

Result = TypeVar("Result")

TRIES = 4
FIRST_PAUSE = 0.5  # seconds; doubled before each further retry
LONGEST_PAUSE = 30.0  # seconds between two tries of a `Persistence`
LONGEST = 60.0  # seconds since the first try after which no further one starts
READS = 1  # tries by s3fs itself: it would repeat reads of a body without a log line

# errno of transient errors.  s3fs also reports a 500 or 503 without an error code of its own as one of these.
_PASSING = {
    errno.EIO, errno.EREMOTEIO, errno.EBUSY, errno.EAGAIN, errno.ETIMEDOUT, errno.ECONNRESET, errno.EPIPE,
    errno.ECONNREFUSED, errno.ECONNABORTED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN,
}  # fmt: skip
_PASSING_KINDS = {  # by name: the packages need not be installed
    "aiohttp.client_exceptions.ClientError",
    "botocore.exceptions.ConnectionError",
    "botocore.exceptions.HTTPClientError",
    "botocore.exceptions.IncompleteReadError",
    "botocore.parsers.ResponseParserError",
}


RETRIES = logging.getLogger("bisieve.retries")


_REASON = "bisieve_reason"  # key in botocore's request context, which all tries of a request share


def s3_options() -> dict[str, Any]:
    """Return the keyword arguments with which s3fs is opened: retries and time-outs of botocore.

    ``AWS_MAX_ATTEMPTS`` and ``AWS_RETRY_MODE`` override the defaults, and fsspec's own configuration
    (``s3`` / ``config_kwargs``) overrides both.
    """
    retries = {
        "mode": os.environ.get("AWS_RETRY_MODE", "standard"),  # with backoff and a retry quota
        "total_max_attempts": int(os.environ.get("AWS_MAX_ATTEMPTS", "4")),
    }
    waits = {"connect_timeout": 5, "read_timeout": 15}  # seconds without any byte
    own = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
    return {"config_kwargs": {"retries": retries, **waits, **own}}


def say_retry(what: str, number: int, error: BaseException, pause: float = 0.0) -> None:
    """Log a warning that ``what`` is retried, at once and without secrets.

    The logger is `RETRIES`, also in Ray and Spark workers; without a handler Python prints it to stderr.

    Args:
        what: The operation, such as "store" or "upload".
        number: The number of the try that comes next, from 2 on.
        error: Why the try before it failed.
        pause: Seconds until the next try.
    """
    reason = one_line(without_secrets(str(error))) or type(error).__name__
    when = f"in {pause:.1f} s" if pause else "now"
    RETRIES.warning("%s: try %d %s, after %s: %s", what, number, when, type(error).__name__, reason)


def with_retries(work: Callable[[], Result]) -> Result:
    """Call ``work`` and return its result, with up to `TRIES` tries in all.

    Only transient errors (`is_transient`) are retried, after 0.5, 1 and 2 seconds, and only within the first
    `LONGEST` seconds.  The last error is raised unchanged.
    """
    begun = time.monotonic()
    for again in range(1, TRIES):
        try:
            return work()
        except Exception as error:
            if not is_transient(error) or time.monotonic() - begun > LONGEST:
                raise
            pause = FIRST_PAUSE * 2 ** (again - 1)
            say_retry("store", again + 1, error, pause)
            time.sleep(pause)
    return work()


class Persistence:
    """Retries of transient store failures until ``budget`` seconds are spent on failures.

    The budget counts failed tries and the pauses after them, and is shared by all calls of one object.
    """

    def __init__(self, budget: float) -> None:
        self._left = budget

    def __call__(self, work: Callable[[], None]) -> None:
        """Call ``work`` until it succeeds; each retry is logged.

        Raises:
            StorageError: The failure is not transient, or the budget is spent.
        """
        pause, number = FIRST_PAUSE, 1
        while True:
            begun = time.monotonic()
            try:
                return work()
            except StorageError as error:
                self._left -= time.monotonic() - begun + pause
                may_pass = isinstance(error.__cause__, Exception) and is_transient(error.__cause__)
                if not may_pass or self._left < 0:
                    raise
                number += 1
                say_retry("upload", number, error, pause)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def replaced_while_read(error: Exception) -> bool:
    """Return whether the store reports that the file was replaced after it was opened."""
    return type(error).__name__ == "FileExpired"  # of s3fs, which need not be installed


def is_transient(error: Exception) -> bool:
    """Return whether the operation that raised ``error`` may succeed if it is retried."""
    if replaced_while_read(error):
        return False
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if isinstance(error, OSError) and error.errno in _PASSING:
        return True
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    return not kinds.isdisjoint(_PASSING_KINDS)


def say_retries(client: Any) -> None:
    """Log every retry of a botocore ``client`` with `say_retry`.

    Calling it twice for the same client has no further effect.
    """
    client.meta.events.register("needs-retry.s3", _keep_reason, unique_id="bisieve-reason")
    client.meta.events.register("request-created.s3", _say, unique_id="bisieve-say")


def _keep_reason(
    request_dict: dict[str, Any], response: Any, caught_exception: Exception | None, operation: Any, **_: Any
) -> None:
    """Store why a request failed in its context; botocore decides whether to send it again."""
    request_dict["context"][_REASON] = caught_exception or _refusal(response, operation.name)


def _refusal(response: Any, operation: str) -> Exception | None:
    """Return the error that an HTTP status of 300 or above stands for, or None for a success."""
    from botocore.exceptions import ClientError

    answer, parsed = response
    return ClientError(parsed, operation) if answer.status_code >= 300 else None


def _say(request: Any, operation_name: str, **_: Any) -> None:
    """Log a request that botocore sends for the second time or later."""
    context = request.context
    number, reason = context.get("retries", {}).get("attempt", 1), context.get(_REASON)
    if number > 1 and reason is not None:
        say_retry(f"S3 {operation_name}", number, reason)
