"""TLS to S3, unless a plain-HTTP endpoint is asked for by name.

Over plain HTTP everybody on the way reads the corpus and may change it.  A server on this machine is no risk.
"""

import os
from ipaddress import ip_address
from urllib.parse import urlsplit

from bisieve.errors import StorageError

PLAIN_HTTP = "BISIEVE_PLAIN_HTTP"  # HOST:PORT of endpoints, several by comma


def check_endpoint(endpoint: str, url: str) -> None:
    """`StorageError` where the store of ``url`` is to be asked at an ``endpoint`` without TLS, unnamed."""
    at = urlsplit(endpoint)
    named = os.environ.get(PLAIN_HTTP, "").split(",")
    if at.scheme != "http" or at.netloc in named or _is_this_machine(at.hostname or ""):
        return
    raise StorageError(
        f"TLS on the way to {url}", f"the endpoint http://{at.netloc}",
        f"give one with https://, or ask for this one by its name: {PLAIN_HTTP}={at.netloc}",
    )  # fmt: skip


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # a name
        return False
