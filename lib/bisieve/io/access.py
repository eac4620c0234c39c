"""Checks of how a store or server is reached: credentials, TLS, and whether it listens.

Over plain HTTP everybody on the way reads the corpus and may change it.  A server on this machine is no risk.
"""

import os
import socket
from ipaddress import ip_address
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from bisieve._redact import CREDENTIALS, SECRET_SETTING, SIGNED, without_secrets
from bisieve.errors import StorageError, UsageError

PLAIN_HTTP = "BISIEVE_PLAIN_HTTP"  # HOST:PORT of endpoints, several by comma

_CONNECT_SECONDS = 3


def check_no_secret(url: str) -> None:
    """`UsageError` where ``url``, or a URL in it, carries a password or a signature."""
    signed = SIGNED.search(url)
    if signed or CREDENTIALS.search(url):
        shown = f"{url.partition('?')[0]}?***" if signed else url  # there may be a blank in it
        raise UsageError(
            "URLs without credentials", without_secrets(shown),
            "leave them to the environment (for S3: AWS_PROFILE, AWS_ACCESS_KEY_ID, a role of the machine)",
        )  # fmt: skip


def check_no_secret_property(name: str) -> None:
    """Raise `UsageError` where Spark's property ``name`` is a secret: options are seen in `ps`."""
    if SECRET_SETTING.fullmatch(name):
        raise UsageError(
            "no secret among options, which other users of the machine see", f"--spark-conf {name}=***",
            "for spark.authenticate.secret set _SPARK_AUTH_SECRET in the environment; "
            "others go into spark-defaults.conf in SPARK_CONF_DIR",
        )  # fmt: skip


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


def is_reachable(url: str) -> bool:
    """Return whether anything listens at the host and port of ``url`` (http or https).

    Behind a proxy that cannot be known, and the answer is True.
    """
    at = urlsplit(url)
    host = at.hostname or ""
    if at.scheme in getproxies() and not proxy_bypass(host):
        return True
    port = at.port or (80 if at.scheme == "http" else 443)
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except OSError:
        return False
    return True
