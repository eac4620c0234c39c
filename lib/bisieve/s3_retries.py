"""Say what an S3 client tries again by itself: botocore does so, and tells nobody."""

from typing import Any

from bisieve.patience import say_retry

_REASON = "bisieve_reason"  # in the context of a request, which its tries share


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
