"""Credentials come from the environment alone: never in a URL, which ends up in manifests and logs."""

import re

from bisieve.errors import UsageError

# A name alone before an @ is a secret in HTTP, but elsewhere part of a place (abfs://container@account).
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s:]*:[^/@\s]+@|(?<=http://)[^/@\s]+@|(?<=https://)[^/@\s]+@")
_SIGNATURE = re.compile(r"((?<!file)://[^\s?]*\?)[^\s'\"]+")
_SIGNED = re.compile(r"://.*[?&](x-amz-signature|x-goog-signature|signature|sig|token|key)=", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """``text`` without the passwords and signatures that URLs in it carry."""
    return _SIGNATURE.sub(r"\1***", _CREDENTIALS.sub("***@", text))


def check_no_secret(url: str) -> None:
    """`UsageError` where ``url`` carries a password or a signature."""
    if _CREDENTIALS.search(url) or (_SIGNED.search(url) and not url.startswith("file:")):
        raise UsageError(
            "URLs without credentials", without_secrets(url),
            "leave them to the environment (for S3: AWS_PROFILE, AWS_ACCESS_KEY_ID, a role of the machine)",
        )  # fmt: skip
