"""Retry policy for object stores: what is transient, how often and how long to try.

Two layers, each for what the one below cannot see: botocore sends a request again that was refused (500,
503, SlowDown, a reset, a time-out), and `with_retries` begins a whole read or write again, as where a body
broke off.  Both say so (`say_retry`).  A store that refuses everything is given up after some 25 seconds,
one that takes requests and never answers after some minutes.
"""

import errno
import logging
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

import fsspec.config

from bisieve._redact import without_secrets

Result = TypeVar("Result")

TRIES = 4
FIRST_PAUSE = 0.5  # seconds; the next one is twice as long
LONGEST = 60.0  # seconds after which nothing is begun anew
READS = 1  # of a body by s3fs, whose retries nobody could hear

# What passes by itself.  The text of a 500 or 503 without a code of its own comes from s3fs as one of these.
_PASSING = {
    errno.EIO, errno.EREMOTEIO, errno.EBUSY, errno.EAGAIN, errno.ETIMEDOUT, errno.ECONNRESET, errno.EPIPE,
    errno.ECONNREFUSED, errno.ECONNABORTED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN,
}  # fmt: skip
_PASSING_KINDS = {  # of packages that need not be there
    "aiohttp.client_exceptions.ClientError",
    "botocore.exceptions.ConnectionError",
    "botocore.exceptions.HTTPClientError",
    "botocore.exceptions.IncompleteReadError",
    "botocore.parsers.ResponseParserError",
}


RETRIES = logging.getLogger("bisieve.retries")


_REASON = "bisieve_reason"  # in the context of a request, which its tries share


def s3_options() -> dict[str, Any]:
    """How s3fs is opened: ``AWS_MAX_ATTEMPTS``, ``AWS_RETRY_MODE`` and fsspec's own configuration rule."""
    retries = {
        "mode": os.environ.get("AWS_RETRY_MODE", "standard"),  # backs off, and has a quota of retries
        "total_max_attempts": int(os.environ.get("AWS_MAX_ATTEMPTS", "4")),
    }
    waits = {"connect_timeout": 5, "read_timeout": 15}  # seconds without a byte
    own = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
    return {"config_kwargs": {"retries": retries, **waits, **own}}


def say_retry(what: str, number: int, error: BaseException, pause: float = 0.0) -> None:
    """Tell on stderr at once that ``what`` is tried again: the number of the try, the reason, the pause (s).

    A logger carries it: from a worker of Ray or Spark, too, and without a handler Python shows it on stderr.
    """
    reason = without_secrets(" ".join(str(error).split())[:300]) or type(error).__name__
    when = f"in {pause:.1f} s" if pause else "now"
    RETRIES.warning("%s: try %d %s, after %s: %s", what, number, when, type(error).__name__, reason)


def with_retries(work: Callable[[], Result]) -> Result:
    """Return what ``work`` does, tried up to `TRIES` times where it meets what passes by itself."""
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


def replaced_while_read(error: Exception) -> bool:
    """Whether a store says that the file that was being read is not the one that was opened."""
    return type(error).__name__ == "FileExpired"  # of s3fs, which need not be there


def is_transient(error: Exception) -> bool:
    """Whether a store that raised ``error`` may do what it was asked for a moment later."""
    if replaced_while_read(error):
        return False
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if isinstance(error, OSError) and error.errno in _PASSING:
        return True
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    return not kinds.isdisjoint(_PASSING_KINDS)


def say_retries(client: Any) -> None:
    """Have every retry of a botocore ``client`` said by `say_retry`; asked twice, it is said once."""
    client.meta.events.register("needs-retry.s3", _keep_reason, unique_id="bisieve-reason")
    client.meta.events.register("request-created.s3", _say, unique_id="bisieve-say")


def _keep_reason(
    request_dict: dict[str, Any], response: Any, caught_exception: Exception | None, operation: Any, **_: Any
) -> None:
    """Keep why a request failed; whether it is sent again others decide."""
    request_dict["context"][_REASON] = caught_exception or _refusal(response, operation.name)


def _refusal(response: Any, operation: str) -> Exception | None:
    from botocore.exceptions import ClientError

    answer, parsed = response
    return ClientError(parsed, operation) if answer.status_code >= 300 else None


def _say(request: Any, operation_name: str, **_: Any) -> None:
    context = request.context
    number, reason = context.get("retries", {}).get("attempt", 1), context.get(_REASON)
    if number > 1 and reason is not None:
        say_retry(f"S3 {operation_name}", number, reason)
