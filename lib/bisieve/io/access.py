"""Checks of the way to a store or server: no credentials in URLs, TLS, and whether it is reachable.

Over plain HTTP anyone on the network path can read and change the corpus.  A server on this machine is no
risk.
"""

import os
import socket
from ipaddress import ip_address
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from bisieve._redact import CREDENTIALS, SECRET_SETTING, SIGNED, without_secrets
from bisieve.errors import StorageError, UsageError

PLAIN_HTTP = "BISIEVE_PLAIN_HTTP"  # HOST:PORT of endpoints allowed without TLS, separated by commas

_CONNECT_SECONDS = 3


def check_no_secret(url: str) -> None:
    """Raise `UsageError` if ``url``, or a URL inside it, contains a password or a signature."""
    signed = SIGNED.search(url)
    if signed or CREDENTIALS.search(url):
        # `without_secrets` ends a query at the first space, and this one may contain a space.
        shown = f"{url.partition('?')[0]}?***" if signed else url
        raise UsageError(
            "URLs without credentials", without_secrets(shown),
            "set them in the environment (for S3: AWS_PROFILE, AWS_ACCESS_KEY_ID, or an instance role)",
        )  # fmt: skip


def check_no_secret_property(name: str) -> None:
    """Raise `UsageError` if the Spark property ``name`` holds a secret: `ps` shows options to every user."""
    if SECRET_SETTING.fullmatch(name):
        raise UsageError(
            "no secret among options, which other users of the machine see", f"--spark-conf {name}=***",
            "for spark.authenticate.secret set _SPARK_AUTH_SECRET in the environment; "
            "others go into spark-defaults.conf in SPARK_CONF_DIR",
        )  # fmt: skip


def check_endpoint(endpoint: str, url: str) -> None:
    """Raise `StorageError` if the store of ``url`` would be used at an ``endpoint`` without TLS.

    Endpoints on this machine, and those listed in ``BISIEVE_PLAIN_HTTP``, are allowed.
    """
    at = urlsplit(endpoint)
    named = [one.strip() for one in os.environ.get(PLAIN_HTTP, "").split(",")]
    if at.scheme != "http" or _place(endpoint) in named or _is_this_machine(at.hostname or ""):
        return
    place = _place(without_secrets(endpoint))  # mask first: a slash in a password would end the netloc
    raise StorageError(
        f"TLS to the store of {url}", f"the endpoint http://{place}",
        f"use an https:// endpoint, or allow this one: {PLAIN_HTTP}={place}",
    )  # fmt: skip


def _place(endpoint: str) -> str:
    """Return ``HOST:PORT`` of an endpoint, without a user name and password."""
    return urlsplit(endpoint).netloc.rpartition("@")[2]


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # a host name, not an address
        return False


def is_reachable(url: str) -> bool:
    """Return whether a TCP connection to the host and port of ``url`` (http or https) succeeds in 3 seconds.

    If requests go through a proxy this cannot be known, and the result is True.
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
