"""The HTTP side of ``bisieve serve``: paths, limits, errors as JSON. It knows nothing of Ray.

    request ──token, queue──▶ body ──parse, in a thread──▶ Question ──judge──▶ Scored ──▶ JSON
        each step may refuse: {"error": {"expected", "found", "hint", "message", "code"}}

The queue is limited before a body is read. So at most --max-queue bodies of --max-body are in memory.
"""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from bisieve import console
from ray_train.serving.config import ServeConfig
from ray_train.serving.metrics import Metrics
from ray_train.serving.pooling_request import models_answer, pooling_answer, pooling_request
from ray_train.serving.question import TOO_LARGE, Question, RefusedError, Scored, Served
from ray_train.serving.score_request import score_answer, score_request

Ask: TypeAlias = Callable[[Question], Awaitable[Scored | RefusedError]]
Answered: TypeAlias = tuple[Any, Scored]  # the JSON of an answer, and what it is made of

_BUSY, _TOO_SLOW, _NO_TOKEN, _FOREIGN, _FAILED = 503, 408, 401, 403, 500
_BODY_TIME = 60.0  # seconds that a client has to send a body, which has a place in the queue meanwhile
_RETRY_AFTER = 1  # seconds that a client is asked to wait where the queue is full
_TYPES = {400: "BadRequestError", 404: "NotFoundError", 401: "AuthenticationError"}  # as vLLM names them


@dataclass
class Server:
    """What answers requests: a model behind `ask`, with its limits and counters."""

    served: Served
    config: ServeConfig
    ask: Ask
    is_healthy: Callable[[], bool]
    token: str = ""  # empty: none is needed
    metrics: Metrics = field(default_factory=Metrics)
    in_flight: int = 0
    cut_off: int = 0  # requests without an answer, at the end

    async def score(self, body: bytes) -> Answered:
        """Answer ``POST /score``."""
        limits = (self.config.max_pixels, self.config.max_steps)
        request = await run_in_threadpool(score_request, body, self.served, *limits)
        scored = await self._asked(request.asked)
        return score_answer(request, scored.rewards, self.served.name), scored

    async def pooling(self, body: bytes) -> Answered:
        """Answer ``POST /pooling``."""
        limits = (self.config.max_pixels, self.config.max_steps)
        asked = await run_in_threadpool(pooling_request, body, self.served, *limits)
        scored = await self._asked(asked)
        return pooling_answer(scored.rewards[0], self.served), scored

    async def _asked(self, asked: Question) -> Scored:
        scored = await self.ask(asked)
        if isinstance(scored, RefusedError):
            raise scored
        return scored

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place in the queue.

        Raises:
            RefusedError: There is none.
        """
        most = self.config.max_queue
        if self.in_flight >= most:
            raise RefusedError(
                f"at most {most:,} requests at once", "more", "ask again a little later", _BUSY
            )
        self.in_flight += 1
        self.metrics.in_flight.set(self.in_flight)
        try:
            yield
        finally:
            self.in_flight -= 1
            self.metrics.in_flight.set(self.in_flight)

    def check_allowed(self, request: Request) -> None:
        """Check the token, and that the request is not from a page in a browser.

        Raises:
            RefusedError: The token is missing or wrong, or a page in a browser asks.
        """
        if "origin" in request.headers:
            raise RefusedError(
                "a request of a program", "one of a page in a browser", "ask from your own server", _FOREIGN
            )
        given = request.headers.get("authorization", "")
        if self.token and not hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
            raise RefusedError(
                "the server's token as Authorization: Bearer TOKEN", "another one" if given else "none",
                "StepClient and --server take it from VLLM_API_KEY", _NO_TOKEN,
            )  # fmt: skip


def application(server: Server) -> Starlette:
    """Return the application that answers for ``server``."""
    get = {
        "/v1/models": lambda: _json(models_answer(server.served)),
        "/metrics": lambda: Response(server.metrics.text(), media_type="text/plain; version=0.0.4"),
    }  # fmt: skip
    post = {"/score": server.score, "/pooling": server.pooling, "/v1/pooling": server.pooling}
    return Starlette(
        routes=[
            Route("/health", _health(server)),
            *(Route(path, _get(server, answer)) for path, answer in get.items()),
            *(Route(path, _post(server, path, answer), methods=["POST"]) for path, answer in post.items()),
        ],
        exception_handlers={HTTPException: _no_such},
    )


def _health(server: Server) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        if await run_in_threadpool(server.is_healthy):
            return _json({"status": "ok", "model": server.served.name})
        return _refusal(RefusedError("a replica that answers", "none", "ask again a little later", _BUSY))

    return respond


def _get(server: Server, answer: Callable[[], Response]) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        try:
            server.check_allowed(request)
        except RefusedError as refused:
            return _refusal(refused)
        return answer()

    return respond


def _post(
    server: Server, path: str, answer: Callable[[bytes], Awaitable[Answered]]
) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        begun = time.monotonic()
        try:
            server.check_allowed(request)
            with server.place():
                content, scored = await answer(await _body(request, server.config.body_bytes))
            server.metrics.add_rewards(scored.rewards, scored.batches, time.monotonic() - begun)
            response = _json(content)
        except RefusedError as refused:
            response = _refusal(refused)
            _release(refused)
        except asyncio.CancelledError:  # the time for requests in flight is over
            server.cut_off += 1
            return _refusal(
                RefusedError("time for an answer", "a server that ends", "ask it when it runs again", _BUSY)
            )
        except ClientDisconnect:
            return Response()  # nobody receives it
        except Exception as error:  # a bug: the client gets no traceback
            console.show_on_stderr(f"error: a request failed: {type(error).__name__}: {error}")
            hint = "please report it; the server's stderr has more"
            response = _refusal(RefusedError("an answer", type(error).__name__, hint, _FAILED))
            _release(error)
        server.metrics.add(path, response.status_code)
        return response

    return respond


def _release(error: Exception) -> None:
    """Release the frames of an error that is answered: they hold the body of the request.

    Some of them hold the error, too (those of a thread's future, for one), so that all would be garbage of
    the kind that remains until Python's collector runs: hundreds of requests later, each with its body.
    """
    error.__traceback__ = None


async def _body(request: Request, most: int) -> bytes:
    """Return the body of a request, of which no more than ``most`` bytes are kept.

    Raises:
        RefusedError: It is longer, or the client sends it too slowly.
    """
    too_large = RefusedError(f"a body of at most {most:,} bytes", "more", "send less at once", TOO_LARGE)
    if int(request.headers.get("content-length", "0")) > most:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_TIME):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise too_large
    except TimeoutError as error:
        raise RefusedError(
            f"a body within {_BODY_TIME:.0f} seconds",
            f"{len(body):,} bytes of it",
            "send it faster",
            _TOO_SLOW,
        ) from error
    return bytes(body)


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, media_type="application/json")


def _refusal(refused: RefusedError) -> Response:
    expected, found, hint = refused.args
    kind = _TYPES.get(refused.status, "InvalidRequestError" if refused.status < 500 else "ServerError")
    error = {"message": str(refused), "expected": expected, "found": found, "hint": hint, "type": kind,
             "code": refused.status}  # fmt: skip
    headers = {"Retry-After": str(_RETRY_AFTER)} if refused.status == _BUSY else None
    if refused.status == _NO_TOKEN:
        headers = {"WWW-Authenticate": "Bearer"}
    return _json({"error": error}, refused.status, headers)


async def _no_such(request: Request, error: Exception) -> Response:
    """Answer a request with an unknown path or method."""
    status, headers = _FAILED, {}
    if isinstance(error, HTTPException):
        status, headers = error.status_code, dict(error.headers or {})  # Allow, with 405
    found = f"{request.method} {request.url.path}"[:200]
    paths = "POST /score, POST /pooling, GET /v1/models, GET /health or GET /metrics"
    response = _refusal(RefusedError(paths, found, "correct the URL", status))
    response.headers.update(headers)
    return response
