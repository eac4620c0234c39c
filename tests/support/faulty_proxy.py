"""A proxy that harms what passes through it: the network between a program and its store on a bad day.

Requests go on as they came, so that signatures hold: a server checks the Host that its client named.
Whether the n-th request for a thing is harmed depends on the seed and n alone, never on who came first.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

ANSWERS = {"500": "InternalError", "503": "SlowDown"}
# 500 and 503: refused; reset: no answer; stall: none for long; cut: the body breaks off; short: a part of the
# range, as if it were all; lost: done by the store, and its answer never seen.
FAULTS = ("500", "503", "reset", "stall", "cut", "short", "lost")
OF_RANGES = ("cut", "short")


@dataclass(frozen=True)
class Passed:
    """One request that came through."""

    method: str
    path: str
    byte_range: str | None
    sent: int  # bytes of the answer's body
    fault: str | None
    posted: bytes = b""


class FaultyProxy:
    """Stands before the server at ``target``; harmless until it is told."""

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.stall = 5.0  # seconds
        self.calm()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def calm(self) -> None:
        """Harms nothing from now on, and forgets what passed."""
        self.harm(0)
        self.passed: list[Passed] = []

    def harm(
        self,
        share: float,
        faults: Sequence[str] = FAULTS,
        seed: int = 0,
        only: Callable[[str, str], bool] = lambda *_: True,
    ) -> None:
        """From now on harms a share of the requests for which ``only(method, path)``, a fault a turn."""
        self._share, self._faults, self._seed, self._only = share, faults, seed, only
        self._met: Counter[str] = Counter()
        self._befell: Counter[str] = Counter()
        self._lock = threading.Lock()

    def harm_first_puts(self, *names: str) -> None:
        """From now on harms the first three PUTs of each file in which one of ``names`` stands."""
        met: Counter[str] = Counter()

        def early(method: str, path: str) -> bool:
            if method != "PUT" or not any(name in path for name in names):
                return False
            file = path.partition("?")[0]  # each new try of an upload in parts has another id behind it
            met[file] += 1
            return met[file] <= 3

        self.harm(1.0, ["503", "reset"], only=early)

    def faults(self) -> Counter[str]:
        """How often each fault befell a request."""
        return Counter(passed.fault for passed in self.passed if passed.fault)

    def close(self) -> None:
        """Stops."""
        self._server.shutdown()
        self._server.server_close()

    def fault(self, method: str, path: str, byte_range: str | None) -> str | None:
        """What befalls this request."""
        if not self._only(method, path):
            return None
        thing = f"{method} {urlsplit(path).path} {byte_range}"
        with self._lock:
            self._met[thing] += 1
            nth = self._met[thing]
            if random.Random(f"{self._seed} {thing} {nth}").random() >= self._share:
                return None
            possible = [fault for fault in self._faults if byte_range or fault not in OF_RANGES]
            if not possible:
                return None
            fault = min(possible, key=self._befell.__getitem__)
            self._befell[fault] += 1
            return fault


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultyProxy
    protocol_version = "HTTP/1.1"

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        byte_range = self.headers.get("Range")
        fault = self.proxy.fault(self.command, self.path, byte_range)
        sent = self._answer(fault, body)
        posted = body if self.command == "POST" else b""
        self.proxy.passed.append(Passed(self.command, self.path, byte_range, sent, fault, posted))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass  # noqa: N815

    def _answer(self, fault: str | None, body: bytes) -> int:
        if fault in ANSWERS:
            text = f"<Error><Code>{ANSWERS[fault]}</Code><Message>harmed</Message></Error>".encode()
            self.send_response(int(fault))
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)
            return len(text)
        if fault in ("reset", "stall"):
            time.sleep(self.proxy.stall if fault == "stall" else 0)
            return self._hang_up()
        answer, data = self._ask(body)
        if fault == "lost":
            return self._hang_up()
        wanted = len(data)
        if fault in ("cut", "short"):
            data = data[: -(-wanted // 2)]
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        told = answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(wanted)
        self.send_header("Content-Length", str(len(data)) if fault == "short" else told)
        self.end_headers()
        self.wfile.write(data)
        if fault == "cut":
            self._hang_up()
        return len(data)

    def _ask(self, body: bytes) -> tuple[HTTPResponse, bytes]:
        server = HTTPConnection(self.proxy.target, timeout=30)
        try:
            server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    server.putheader(name, value)
            server.endheaders(body)
            answer = server.getresponse()
            return answer, answer.read()
        finally:
            server.close()

    def _hang_up(self) -> int:
        self.close_connection = True
        return 0

    def log_message(self, *_: object) -> None:
        """Nothing: `FaultyProxy.passed` tells."""
