"""Redaction of text for display: passwords, signatures and other secrets become ``***``."""

import re

# Parameters whose names end like this are secrets: X-Amz-Security-Token, access_token, api_key, sig, …
_SECRET_NAME = r"[^=&;/\s]*(?:token|key|secret|password|signature|credential|sig)"
CREDENTIALS = re.compile(
    # A password may contain any character, also a slash, as half of AWS's keys do.  Not in HDFS URLs, which
    # have no password but a port after the colon, and not in local paths.
    r"(?<=://)(?<!file://)(?<!hdfs://)[^/:\s'\"]*:(?!//)\S*@"
    r"|(?<=hdfs://)[^/:@\s]*:[^/@\s]*@"
    # A name alone before an @ is a secret in HTTP; elsewhere it is part of the address
    # (abfs://container@account).
    r"|(?:(?<=http://)|(?<=https://))[^/@\s]+@",
    re.IGNORECASE,
)
# Spark properties that hold secrets; others, such as `spark.authenticate.secret.file`, hold paths.
SECRET_SETTING = re.compile(
    r"spark\.[\w.-]*(?:secret|password|token|(?:secret|access)[.]?key)", re.IGNORECASE
)
_SETTING = re.compile(rf"\b({SECRET_SETTING.pattern})=\S+", re.IGNORECASE)
SIGNED = re.compile(rf"(?<!file)://.*[?&]{_SECRET_NAME}=", re.IGNORECASE)
# A question mark begins a query in HTTP.  In other URLs it does so only if a "=" follows: it may be part of a
# glob.
_QUERY = re.compile(r"((?:https?://[^\s?]*|(?<!file)://[^\s?]*(?=\?[^\s'\"]*=))\?)[^\s'\"]+", re.IGNORECASE)


_ESCAPES = re.compile(r"(?:\x1b\[|\x9b)[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def without_escapes(text: str) -> str:
    """Return ``text`` without escape codes and control characters, except tabs and newlines."""
    return _ESCAPES.sub("", text)


def without_secrets(text: str) -> str:
    """Return ``text`` with ``***`` for passwords and queries in URLs, and for secret Spark properties."""
    return _SETTING.sub(r"\1=***", _QUERY.sub(r"\1***", CREDENTIALS.sub("***@", text)))
