"""Credentials come from the environment alone: never in a URL, which ends up in manifests and logs."""

from bisieve.errors import UsageError
from bisieve.masking import CREDENTIALS, SIGNED, without_secrets


def check_no_secret(url: str) -> None:
    """`UsageError` where ``url``, or a URL in it, carries a password or a signature."""
    signed = SIGNED.search(url)
    if signed or CREDENTIALS.search(url):
        shown = f"{url.partition('?')[0]}?***" if signed else url  # there may be a blank in it
        raise UsageError(
            "URLs without credentials", without_secrets(shown),
            "leave them to the environment (for S3: AWS_PROFILE, AWS_ACCESS_KEY_ID, a role of the machine)",
        )  # fmt: skip
