"""Who may ask: only requests with the token, to this server by its own name.

The token is the first part of each path, which no other page can guess.  The host must be this server's, so
that a site whose name leads to this machine (DNS rebinding) gets nothing.
"""

import hmac
from collections.abc import Collection
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True)
class Guard:
    """Refuses requests before ``app`` sees them, and adds headers to each response."""

    app: ASGIApp
    token: str
    hosts: Collection[str]  # names with the port, such as 127.0.0.1:8000

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # a web socket, which is closed

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        why = self._why_not(scope)
        app = PlainTextResponse(f"{why}\n", 403) if why else self.app
        await app(scope, receive, with_headers)

    def _why_not(self, scope: Scope) -> str:
        """Return why a request is refused, "" if it is not."""
        headers = Headers(scope=scope)
        if headers.get("host", "") not in self.hosts:
            return "another host was asked for"
        given = scope["path"].split("/")[1]
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            return "the token is missing or wrong: open the URL that bisieve explore printed"
        origin = headers.get("origin")
        if origin is not None and origin.removeprefix("http://") not in self.hosts:
            return "another site asks"
        return ""
