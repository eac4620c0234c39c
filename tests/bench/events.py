"""What Spark's event log says about its shuffles."""

import json
from pathlib import Path


def shuffle_bytes(folder: Path) -> int:
    """Bytes that all tasks logged in ``folder`` wrote into shuffles, as Spark compressed them."""
    total = 0
    for log in sorted(path for path in folder.rglob("*") if path.is_file()):
        with open(log, encoding="utf-8") as lines:
            for line in lines:
                if line.startswith('{"Event":"SparkListenerTaskEnd"'):
                    metrics = json.loads(line).get("Task Metrics") or {}
                    total += metrics.get("Shuffle Write Metrics", {}).get("Shuffle Bytes Written", 0)
    return total
