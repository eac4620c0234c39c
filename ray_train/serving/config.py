"""Options of ``bisieve serve``. Each is a flag and a TOML key."""

from dataclasses import dataclass
from typing import ClassVar

from bisieve.io.images import MOST_PIXELS
from ray_train.config_io import option, require

EVENLY = 0.0  # of the options per replica: shares the machine's cores or GPUs evenly
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Options of serving a model."""

    model: str = option("hub id, folder or URL of a model, trained by bisieve or not", location="model")
    host: str = option("address to listen at; others than this machine's own let others ask", "127.0.0.1")
    port: int = option("port to listen at; 0: any free one", 8000)
    num_replicas: int = option("processes with a copy of the model each", 1)
    gpus_per_replica: float = option(
        "GPUs of a replica; 0.5: two share one; 0: none; -1: one, if there are as many as replicas", -1.0
    )
    cpus_per_replica: float = option(
        "CPU cores of a replica; 0: all of this machine, evenly, or one where a replica has a GPU", EVENLY
    )
    batch: int = option("solutions that go through a model at once", 16)
    max_length: int = option("tokens a solution may have; 0: as in training", 0)
    max_body: float = option("MB that a request may have", 32.0)
    max_pixels: int = option("pixels that the images of a request may have together", 2**24)
    max_steps: int = option("steps that the solutions of a request may have together", 2048)
    max_queue: int = option("requests that wait or are computed; further ones get HTTP 503", 128)
    grace: int = option("seconds that requests in flight have after Ctrl-C or SIGTERM", 30)

    GROUPS: ClassVar[dict[str, str]] = {
        "model": "model and address", "num_replicas": "computation", "max_body": "limits",
    }  # fmt: skip

    def check(self) -> None:
        """Check the values of all options.

        Raises:
            UsageError: A value is out of range.
        """
        for name in ("num_replicas", "batch", "max_steps", "max_queue"):
            value = getattr(self, name)
            require(value >= 1, name, value, "an integer of 1 or more")
        for name in ("max_length", "cpus_per_replica", "grace"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        gpus = self.gpus_per_replica
        require(
            gpus in (-1, 0) or 0 < gpus <= 1, "gpus_per_replica", gpus,
            "a number from 0 to 1 (a replica computes on one GPU), or -1,",
        )  # fmt: skip
        require(0 <= self.port < 2**16, "port", self.port, "a port from 0 to 65535")
        require(self.max_body > 0, "max_body", self.max_body, "a number above 0")
        most = self.max_pixels
        require(1 <= most <= MOST_PIXELS, "max_pixels", most, f"an integer from 1 to {MOST_PIXELS:,}")

    @property
    def body_bytes(self) -> int:
        """Return how many bytes the body of a request may have."""
        return int(self.max_body * 1e6)
