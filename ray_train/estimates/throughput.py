"""Measure each training step: tokens and rollouts per second, padding, waits for data, memory, and MFU.

MFU (model FLOPs utilisation) compares the operations of a step with what the devices could compute in its
time.
"""

import resource
import sys
import time
from typing import Protocol

import torch
import torch.distributed as dist

from ray_train.distributed.collectives import all_reduce_max, all_reduce_sum
from ray_train.estimates.flops import ModelCost, peak_of, token_counts
from ray_train.model.reward import Batch


class Feed(Protocol):
    """A source of batches that counts how long the training has waited for them."""

    waited: float  # seconds since the start of the run


class Meter:
    """Measures each step of a rank: call `start`, `add` for each batch, then `read` on all ranks together."""

    def __init__(self, cost: ModelCost, peak: float, device: torch.device, feed: Feed) -> None:
        self._cost = cost
        self._peak = peak or peak_of(device)
        self._device = device
        self._feed = feed
        self.start()

    def start(self) -> None:
        """Begin a step: reset the counts and the clock."""
        self._started, self._waited = time.perf_counter(), self._feed.waited
        self._counts = dict.fromkeys(("tokens", "places", "rollouts", "flops"), 0.0)

    def add(self, batch: Batch) -> None:
        """Count ``batch``, which must still be on the CPU, before it goes through the model."""
        tokens, places = token_counts(batch)
        for name, count in zip(
            self._counts, (tokens, places, len(batch.rows), self._cost.flops(batch)), strict=True
        ):
            self._counts[name] += count

    def read(self) -> dict[str, float]:
        """Return the metrics of the step, equal on all ranks; all ranks must call this together.

        Counts are summed over the ranks. Of seconds and bytes the maximum over the ranks is used: if one rank
        waits for data, the others wait for that rank.

        Returns:
            ``tokens_per_second``, ``rollouts_per_second``, ``padding_share`` and ``data_wait_share`` (in
            [0, 1]), ``memory_gb`` (10^9 bytes), and ``mfu`` where the peak FLOP/s of a device is known.
        """
        waited = self._feed.waited - self._waited
        # This waits for the device, so that the clock is read after the whole step.
        sums = all_reduce_sum(self._counts, None, self._device)
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


def _peak_memory(device: torch.device) -> int:
    """Return the peak bytes so far: of tensors on a GPU, or else of this process in RAM."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
