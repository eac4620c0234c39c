"""Whether a server listens, asked in seconds: the clients of hubs and trackers retry for minutes."""

import socket
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_CONNECT_SECONDS = 3


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
