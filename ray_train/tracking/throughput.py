"""How fast a run is and what its steps cost, over all ranks: tokens, FLOP/s, padding, waiting, memory."""

import resource
import sys
import time
from typing import Protocol

import torch
import torch.distributed as dist

from ray_train.distributed.collectives import all_reduce_max, all_reduce_sum
from ray_train.estimates.flops import ModelCost, peak_flops, token_counts
from ray_train.model.batch import Batch


class Feed(Protocol):
    """What says how long it was waited for."""

    waited: float  # seconds, from the start of the run


class Meter:
    """Measures the steps of one rank; all ranks must read theirs together."""

    def __init__(self, cost: ModelCost, peak: float, device: torch.device, feed: Feed) -> None:
        self._cost = cost
        self._peak = peak or peak_of(device)
        self._device = device
        self._feed = feed
        self.start()

    def start(self) -> None:
        """A step begins."""
        self._started, self._waited = time.perf_counter(), self._feed.waited
        self._counts = dict.fromkeys(("tokens", "places", "rollouts", "flops"), 0.0)

    def add(self, batch: Batch) -> None:
        """``batch``, still on the CPU, goes through the model."""
        tokens, places = token_counts(batch)
        for name, count in zip(
            self._counts, (tokens, places, len(batch.rows), self._cost.flops(batch)), strict=True
        ):
            self._counts[name] += count

    def read(self) -> dict[str, float]:
        """The metrics of the step that ends here, the same on all ranks; a collective.

        Counts are summed over the ranks.  Of seconds and memory the largest counts: where one rank waits
        for its feed, the others wait for it.
        """
        waited = self._feed.waited - self._waited
        sums = all_reduce_sum(
            self._counts, None, self._device
        )  # behind it nothing of the step is left in a queue
        seconds = time.perf_counter() - self._started
        worst = all_reduce_max(
            {"seconds": seconds, "waited": waited, "memory": _peak_memory(self._device)}, self._device
        )
        metrics = {
            "tokens_per_second": sums["tokens"] / worst["seconds"],
            "rollouts_per_second": sums["rollouts"] / worst["seconds"],
            "padding_share": 1 - sums["tokens"] / max(1.0, sums["places"]),
            "data_wait_share": worst["waited"] / worst["seconds"],
            "memory_gb": worst["memory"] / 1e9,
        }
        if self._peak:
            possible = self._peak * dist.get_world_size() * worst["seconds"]
            metrics["mfu"] = sums["flops"] / possible
        return metrics


def peak_of(device: torch.device) -> float:
    """FLOP/s of ``device`` in bf16; 0 where it is unknown."""
    return peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else 0.0


def _peak_memory(device: torch.device) -> int:
    """Bytes: the most that tensors had on a GPU, or the process in RAM, so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
