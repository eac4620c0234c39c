"""What a server counts, as Prometheus reads it from ``GET /metrics``."""

from collections.abc import Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.process_collector import ProcessCollector

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one server, apart from those of other servers of the same process."""

    def __init__(self) -> None:
        # Else each counter has a second one, with the time of its start.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # memory and CPU time of the process that answers HTTP
        self._requests = Counter(
            "bisieve_serve_requests", "Answered requests", ["path", "status"], registry=registry
        )
        self._seconds = Histogram(
            "bisieve_serve_seconds", "Seconds to an answer with rewards", buckets=_SECONDS, registry=registry
        )
        self._solutions = Counter("bisieve_serve_solutions", "Solutions with rewards", registry=registry)
        self._steps = Counter("bisieve_serve_steps", "Steps of these solutions", registry=registry)
        self._batches = Histogram(
            "bisieve_serve_batch_solutions", "Solutions in the batch of each part of a request",
            buckets=_SIZES, registry=registry,
        )  # fmt: skip
        self.in_flight = Gauge("bisieve_serve_in_flight", "Requests not yet answered", registry=registry)
        self.answered = 0  # requests to score, with rewards or refused

    def add(self, path: str, status: int) -> None:
        """Count an answer."""
        self._requests.labels(path, str(status)).inc()
        self.answered += 1

    def add_rewards(self, rewards: Sequence[Sequence[float]], batches: Sequence[int], seconds: float) -> None:
        """Count an answer with rewards."""
        self._seconds.observe(seconds)
        self._solutions.inc(len(rewards))
        self._steps.inc(sum(map(len, rewards)))
        for size in batches:
            self._batches.observe(size)

    def text(self) -> bytes:
        """Return all as Prometheus's text format."""
        return generate_latest(self._registry)
