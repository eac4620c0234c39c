"""Clients that ask without a pause until a time, and what they count."""

import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import requests

from bench.serving.mix import Asked, is_right

_GOOD = 0.6  # share of the requests
_TIME = 120.0  # seconds that an answer may take
_BUSY = 503


@dataclass
class Count:
    """What all clients saw."""

    asked: Counter[str] = field(default_factory=Counter)  # by kind; each until its right or wrong answer
    statuses: Counter[str] = field(default_factory=Counter)  # answers, by path and status
    wrong: list[str] = field(default_factory=list)  # answers that are not right, and requests without one
    seconds: list[float] = field(default_factory=list)  # to the answers of good ones
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def busy(self) -> int:
        """Answers that asked the client to come back later."""
        return sum(number for name, number in self.statuses.items() if name.endswith(f" {_BUSY}"))


def ask_until(
    end: float,
    url: str,
    good: Sequence[Asked],
    bad: Sequence[Asked],
    clients: int,
    tolerance: float,
    seed: int,
) -> Count:
    """Let ``clients`` threads ask until ``time.monotonic()`` is ``end``; all their answers have come then."""
    count = Count()
    threads = [
        threading.Thread(
            target=_client, args=(end, url, good, bad, count, tolerance, random.Random(seed + number))
        )
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count


def _client(
    end: float, url: str, good: Sequence[Asked], bad: Sequence[Asked], count: Count, tolerance: float,
    random: random.Random,
) -> None:  # fmt: skip
    with requests.Session() as session:
        while time.monotonic() < end:
            asked = random.choice(good if random.random() < _GOOD else bad)
            with count.lock:
                count.asked[asked.name] += 1
            if asked.gone:
                _leave(url, asked)
                continue
            begun = time.monotonic()
            wrong = _answered(session, url, asked, count, tolerance)
            with count.lock:
                if wrong:
                    count.wrong.append(f"{asked.name}: {wrong}")
                elif asked.status == 200:
                    count.seconds.append(time.monotonic() - begun)


def _answered(session: requests.Session, url: str, asked: Asked, count: Count, tolerance: float) -> str:
    """Ask until the server is not busy; return what is wrong with the answer, "" if nothing is."""
    while True:
        body = _chunks(asked.body) if asked.chunked else asked.body
        try:
            answer = session.request(asked.method, url + asked.path, data=body, timeout=_TIME)
        except requests.RequestException as error:
            return f"no answer: {error}"
        with count.lock:
            count.statuses[f"{asked.path} {answer.status_code}"] += 1
        if answer.status_code != _BUSY:
            right = is_right(asked, answer.status_code, answer.content, tolerance)
            return "" if right else f"{answer.status_code} {answer.text[:300]}"
        if "Retry-After" not in answer.headers:
            return "503 without Retry-After"
        time.sleep(float(answer.headers["Retry-After"]) / 4)  # impatient, to stay at the limit


def _chunks(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 50_000):
        yield body[start : start + 50_000]


def _leave(url: str, asked: Asked) -> None:
    """Begin a request and close the connection."""
    parts = urlsplit(url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=_TIME) as gone:
        length = 10 * len(asked.body)
        gone.sendall(f"POST {asked.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
        gone.sendall(asked.body)
