"""The web server of a `Session`: on this machine only, and only for those who have its URL.

Who may ask (`Guard`): only requests with the token, which is the first part of each path and which no other
page can guess; and only to this server by its own name, so that a site whose name leads to this machine (DNS
rebinding) gets nothing.

No path names a file of the corpus: images are those of the records that are shown, and come inside answers.
"""

import hmac
import secrets
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal, TypeVar

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bisieve.errors import BisieveError, StorageError, UsageError
from bisieve.explore.filters import filters_of
from bisieve.explore.session import PAGE, Session
from bisieve.report.html import plain

HOST = "127.0.0.1"
_USUAL_PORT = 80  # of HTTP
_MOST = 2**63 - 1  # of an integer in DuckDB
_MOST_BODY = 64 * 2**20  # bytes of a request
_SCRIPTS = ("explore", "parts", "rejects", "rollout", "selection", "state", "table")
_PAGE = {  # name in the URL -> media type; the first is the page itself
    "explore.html": "text/html", "explore.css": "text/css",
    **{f"{name}.js": "text/javascript" for name in _SCRIPTS},
}  # fmt: skip

Asked = TypeVar("Asked", bound=msgspec.Struct)
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class _Ranking(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    strategy: str | None = None
    alpha: float | Literal["auto"] | None = None
    threshold: float | None = None
    pair_share: float | None = None
    scope: str | None = None
    ties: str | None = None
    all_negative: str | None = None
    seed: int | None = None


class _Selection(msgspec.Struct, forbid_unknown_fields=True):
    fraction: float | str
    asked: _Ranking
    without_marked: bool = False


class _Marks(msgspec.Struct, forbid_unknown_fields=True):
    marked: bool
    ids: list[str] | None = None  # these, or else all that pass the filters
    filters: dict[str, Any] = {}


def application(session: Session, token: str, port: int) -> ASGIApp:
    """Return the application that answers for ``session``.

    Args:
        session: What it shows.
        token: First part of each path.
        port: On which it is served.
    """
    routes: list[BaseRoute] = [
        *(_file(f"/{token}/{name}", name) for name in _PAGE),
        _file(f"/{token}/", next(iter(_PAGE))),
        _get(session, f"/{token}/about", lambda asked: session.about()),
        _get(session, f"/{token}/rollouts", lambda asked: _rollouts(session, asked)),
        _get(session, f"/{token}/rollout", lambda asked: _rollout(session, asked)),
        _get(session, f"/{token}/rejects", lambda asked: _rejects(session, asked)),
        _post(session, f"/{token}/select", _Selection, lambda asked: _select(session, asked)),
        _post(session, f"/{token}/mark", _Marks, lambda asked: _mark(session, asked)),
        Route(f"/{token}/ids.txt", lambda request: _ids(session, request)),
        Route(f"/{token}/exclude.txt", lambda request: _text("exclude.txt", session.marked())),
    ]
    app = Starlette(routes=routes, exception_handlers={BisieveError: _refused})
    suffix = "" if port == _USUAL_PORT else f":{port}"  # browsers leave out that of HTTP
    return Guard(app, token, {f"{name}{suffix}" for name in (HOST, "localhost")})


def serve(session: Session, port: int, ready: Callable[[str], None]) -> None:
    """Serve ``session`` until Ctrl-C or SIGTERM.

    Args:
        session: What is shown.
        port: 0: any free one.
        ready: Called with the URL of the page when it can be opened.

    Raises:
        UsageError: The port is not free.
    """
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # also just after another one ended
        try:
            listening.bind((HOST, port))
        except (OSError, OverflowError) as error:
            found = f"{port}: {getattr(error, 'strerror', 'out of range')}"
            raise UsageError("a free --port", found, "give another one, or 0 for any") from error
        port, token = listening.getsockname()[1], secrets.token_urlsafe(24)
        listening.listen()
        ready(f"http://{HOST}:{port}/{token}/")
        config = uvicorn.Config(
            application(session, token, port), log_level="warning", access_log=False, server_header=False,
            timeout_graceful_shutdown=2, loop="asyncio", lifespan="off",
        )  # fmt: skip
        uvicorn.Server(config).run(sockets=[listening])


def _rollouts(session: Session, asked: Mapping[str, str]) -> Any:
    own = {"by", "descending", "first", "rows"}
    filters = filters_of({name: value for name, value in asked.items() if name not in own})
    by, descending = asked.get("by", "rank"), asked.get("descending") == "true"
    found = session.rollouts(filters, by, descending, _number(asked, "first"), _number(asked, "rows", PAGE))
    session.questions.begin()  # not before the first page is there, which it would slow down
    return found


def _rollout(session: Session, asked: Mapping[str, str]) -> Any:
    return session.rollout(asked.get("source", ""), _number(asked, "rank"), _number(asked, "number"))


def _rejects(session: Session, asked: Mapping[str, str]) -> Any:
    return session.rejects(asked.get("source", ""), asked.get("reason", ""), _number(asked, "first"))


def _select(session: Session, asked: _Selection) -> Any:
    return session.select(asked.fraction, msgspec.to_builtins(asked.asked), asked.without_marked)


def _mark(session: Session, asked: _Marks) -> Any:
    if asked.ids is not None:
        return session.mark(asked.ids, asked.marked)
    return session.mark_all(filters_of(asked.filters), asked.marked)


def _ids(session: Session, request: Request) -> Response:
    chunks = session.ids(filters_of(request.query_params))
    return StreamingResponse(chunks, media_type="text/plain", headers=_attached("ids.txt"))


def _number(asked: Mapping[str, str], name: str, default: int = 0) -> int:
    given = asked.get(name, str(default))
    try:
        found = int(given)
    except ValueError:
        found = None
    if found is None or abs(found) > _MOST:
        raise UsageError(f"an integer as {name}", given, "correct it")
    return found


def _file(path: str, name: str) -> Route:
    content = (files("bisieve.explore") / "page" / name).read_bytes()
    return Route(path, lambda request: Response(content, media_type=_PAGE[name]))


def _get(session: Session, path: str, work: Callable[[Mapping[str, str]], Any]) -> Route:
    """Return a route that answers in a thread, since DuckDB and stores block."""

    async def answer(request: Request) -> Response:
        with session.turns.request():
            return _document(await run_in_threadpool(work, request.query_params))

    return Route(path, answer)


def _post(session: Session, path: str, kind: type[Asked], work: Callable[[Asked], Any]) -> Route:
    async def answer(request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MOST_BODY:
                raise UsageError(f"a request of at most {_MOST_BODY} bytes", "more", "send less at once")
        try:
            asked = msgspec.json.decode(bytes(body), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UsageError("a request of this page", str(error), "load the page again") from error
        with session.turns.request():
            return _document(await run_in_threadpool(work, asked))

    return Route(path, answer, methods=["POST"])


def _document(value: Any) -> Response:
    return Response(msgspec.json.encode(plain(value)), media_type="application/json")


def _text(name: str, text: str) -> Response:
    return Response(text, media_type="text/plain", headers=_attached(name))


def _attached(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def _refused(request: Request, error: Exception) -> Response:
    status = 502 if isinstance(error, StorageError) else 400
    return Response(msgspec.json.encode({"error": str(error)}), status, media_type="application/json")


@dataclass(frozen=True)
class Guard:
    """Refuses requests before ``app`` sees them, and adds headers to each response."""

    app: ASGIApp
    token: str
    hosts: Collection[str]  # as browsers name this server, such as 127.0.0.1:8000

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
        given = scope["path"].partition("/")[2].partition("/")[0]  # "" of the path "*"
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            return "the token is missing or wrong: open the URL that bisieve explore printed"
        origin = headers.get("origin")
        if origin is not None and origin.removeprefix("http://") not in self.hosts:
            return "another site asks"
        return ""
