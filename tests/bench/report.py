"""The table, the cost curve and the JSON of a benchmark."""

import json
import os
import platform
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import psutil

from bench.benchmark import Outcome

_TOOLS = ("bisieve", "pyspark", "duckdb", "polars", "pyarrow", "msgspec", "numpy")
_PLACE = "case/size/contender"
_COLUMNS = (  # heading, metric, decimals
    ("wall s", "wall_s", 1),
    ("cpu s", "cpu_s", 1),
    ("memory MB", "memory_mb", 0),
    ("worker MB", "worker_mb", 0),
    ("MB/s core", "mb_per_core_s", 0),
    ("µs/rollout", "us_per_rollout", 2),
    ("µs/step", "us_per_step", 2),
    ("± wall", "wall_spread", 2),
)


def machine() -> dict[str, object]:
    """What the figures hold for."""
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "processor": _processor(),
        "python": platform.python_version(),
        "java": java.splitlines()[0] if java else "none",
        **{tool: version(tool) for tool in _TOOLS},
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")


def render(outcome: Outcome) -> str:
    """All of it as text."""
    verdicts = "\n".join(map(str, outcome.verdicts))
    return "\n\n".join(part for part in (_table(outcome), _cost_curve(outcome), verdicts) if part)


def write(folder: Path, outcome: Outcome) -> None:
    """``scoring.txt``, as it is printed, and ``scoring.json`` with all numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scoring.txt").write_text(render(outcome) + "\n", encoding="utf-8")
    content = {
        "machine": machine(),
        "scale": outcome.scale,
        "corpora": {where: corpus.counts for where, corpus in outcome.corpora.items()},
        "measured": outcome.measured,
        "failures": outcome.failures,
        "requirements": [asdict(verdict) for verdict in outcome.verdicts],
    }
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (folder / "scoring.json").write_text(text + "\n", encoding="utf-8")


def _table(outcome: Outcome) -> str:
    """A line a contender, corpus and size."""
    width = max(map(len, [*outcome.measured, _PLACE]))
    lines = ["  ".join([f"{_PLACE:<{width}}", *(f"{heading:>10}" for heading, *_ in _COLUMNS)])]
    for place, numbers in outcome.measured.items():
        if place in outcome.failures:
            lines.append(f"{place:<{width}}  failed: {outcome.failures[place]}")
            continue
        cells = [
            f"{numbers[metric]:>10.{decimals}f}" if metric in numbers else " " * 10
            for _, metric, decimals in _COLUMNS
        ]
        lines.append("  ".join([f"{place:<{width}}", *cells]).rstrip())
    return "\n".join(lines)


def _cost_curve(outcome: Outcome) -> str:
    """What one rollout more costs from one size to the next: the same everywhere where time is linear."""
    walls: dict[str, list[tuple[int, str, float]]] = {}
    for place, numbers in outcome.measured.items():
        case, size, contender = place.split("/")
        corpus = outcome.corpora.get(f"{case}/{size}")
        if corpus is not None and "wall_s" in numbers:
            walls.setdefault(f"{case}/{contender}", []).append((corpus.rollouts, size, numbers["wall_s"]))
    lines = []
    for name, points in walls.items():
        points.sort()
        costs = [
            f"{small} → {large}: {(more_s - less_s) / (more - less) * 1e6:.2f}"
            for (less, small, less_s), (more, large, more_s) in pairwise(points)
        ]
        if costs:
            lines.append(f"{name}  {', '.join(costs)}")
    return "\n".join(["µs for one rollout more", *lines]) if lines else ""
