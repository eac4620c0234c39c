"""One contender in a process of its own: optimizer steps on one global batch, timed."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from bench.training.contenders import CONTENDERS
from bench.training.models import SIZES, build_model
from bench.training.rollouts import make_prompts
from bench.training.utilization import attention_kernels, step_flops


def measure(contender: str, size: str, prompts: int, repeats: int) -> dict[str, Any]:
    """Seconds of the fastest step, its loss before any update, and the memory that steps take (bytes).

    Of our own step on a GPU also its FLOPs, its type of numbers and its kernels of attention.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch, model = make_prompts(prompts, SIZES[size]), build_model(SIZES[size], device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    steps = sum(len(labels) for prompt in batch for labels in prompt.labels)
    before, losses, seconds = _start_of_peak(device), [], []
    for _ in range(repeats):
        started, total = time.perf_counter(), 0.0
        for loss in CONTENDERS[contender](model, batch, device):
            (loss / steps).backward()
            total += float(loss.detach())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total / steps)  # reading it has waited for the device
        seconds.append(time.perf_counter() - started)
    found: dict[str, Any] = {"seconds": min(seconds), "loss": losses[0], "memory": _peak(device) - before}
    if contender == "ours" and device.type == "cuda":
        found |= {
            "flops": step_flops(model, batch),
            "dtype": str(model.dtype).removeprefix("torch."),
            "attention": attention_kernels(lambda: sum(CONTENDERS[contender](model, batch[:1], device))),
        }
    return found


def _start_of_peak(device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return 0  # weights count: they share the card
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


if __name__ == "__main__":
    name, size, prompts, repeats = sys.argv[1:]
    print(json.dumps(measure(name, size, int(prompts), int(repeats))))
