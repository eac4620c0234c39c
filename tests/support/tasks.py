"""What worker processes are told to do in tests: they find it here by name."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bisieve.scan import scan_rollout_split


def number(value: int) -> int:
    return value


def die(marker: str, value: int, times: int = 1) -> int:
    """Be killed, as where memory runs out, in the first ``times`` tries."""
    tries = Path(marker)
    tries.touch()
    if tries.stat().st_size < times:
        with tries.open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def refuse() -> None:
    raise ValueError("no such thing")


def slow_scan(split: Any, options: Any) -> Iterator[Any]:
    """Say which process scans, in a file beside the shard's folder, and take a minute."""
    folder = Path(split.shard.removeprefix("file://")).parent
    (folder.parent / f"scanned by {os.getpid()}").touch()
    time.sleep(60)
    yield from scan_rollout_split(split, options)


def dying_scan(split: Any, options: Any) -> Iterator[Any]:
    """Be killed in the first try of the first shard that is scanned."""
    folder = Path(split.shard.removeprefix("file://")).parent
    die(str(folder.parent / "died"), 0, times=1)
    yield from scan_rollout_split(split, options)
