"""Passwords, signatures and secrets in text that is shown: each gives way to ``***``."""

import re

# What ends so in a signed URL opens its door: X-Amz-Security-Token, access_token, api_key, sig, …
_SECRET_NAME = r"[^=&;/\s]*(?:token|key|secret|password|signature|credential|sig)"
CREDENTIALS = re.compile(
    # A password may hold anything, a slash too, as half of AWS's keys do.  Not so on HDFS, whose URLs have no
    # passwords but a port, nor on a disk.
    r"(?<=://)(?<!file://)(?<!hdfs://)[^/:\s'\"]*:(?!//)\S*@"
    r"|(?<=hdfs://)[^/:@\s]*:[^/@\s]*@"
    # A name alone before an @ is a secret in HTTP, but elsewhere part of a place (abfs://container@account).
    r"|(?:(?<=http://)|(?<=https://))[^/@\s]+@",
    re.IGNORECASE,
)
# Spark's properties that are secrets; `spark.authenticate.secret.file` and the like are places.
SECRET_SETTING = re.compile(
    r"spark\.[\w.-]*(?:secret|password|token|(?:secret|access)[.]?key)", re.IGNORECASE
)
_SETTING = re.compile(rf"\b({SECRET_SETTING.pattern})=\S+", re.IGNORECASE)
SIGNED = re.compile(rf"(?<!file)://.*[?&]{_SECRET_NAME}=", re.IGNORECASE)
# A question mark alone is a sign of a glob, but in HTTP.
_QUERY = re.compile(r"((?:https?://[^\s?]*|(?<!file)://[^\s?]*(?=\?[^\s'\"]*=))\?)[^\s'\"]+", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """Return ``text`` without passwords and queries of URLs, and without secrets among Spark's properties."""
    return _SETTING.sub(r"\1=***", _QUERY.sub(r"\1***", CREDENTIALS.sub("***@", text)))
