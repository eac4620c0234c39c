"""TLS to S3, unless a plain-HTTP endpoint is asked for by name.

Over plain HTTP everybody on the way reads the corpus and may change it.  A server on this machine is no risk.
"""

import os
from ipaddress import ip_address
from urllib.parse import urlsplit

from bisieve.errors import StorageError
from bisieve.masking import without_secrets

PLAIN_HTTP = "BISIEVE_PLAIN_HTTP"  # HOST:PORT of endpoints, several by comma


def check_endpoint(endpoint: str, url: str) -> None:
    """`StorageError` where the store of ``url`` is to be asked at an ``endpoint`` without TLS, unnamed."""
    at = urlsplit(endpoint)
    named = os.environ.get(PLAIN_HTTP, "").split(",")
    if at.scheme != "http" or _place(endpoint) in named or _is_this_machine(at.hostname or ""):
        return
    place = _place(without_secrets(endpoint))  # masked first: a password may have a slash in it
    raise StorageError(
        f"TLS on the way to {url}", f"the endpoint http://{place}",
        f"give one with https://, or ask for this one by its name: {PLAIN_HTTP}={place}",
    )  # fmt: skip


def _place(endpoint: str) -> str:
    """``HOST:PORT`` of an endpoint, without what may stand before it."""
    return urlsplit(endpoint).netloc.rpartition("@")[2]


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # a name
        return False
