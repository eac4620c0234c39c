"""What the sample logs of a checkpoint hold: the rows of every step, and its loss."""

import json
from typing import Any

from bisieve.io import storage, urls
from ray_train.checkpoints.state import SAMPLES


def read_sample_logs(checkpoint: str) -> list[dict[str, Any]]:
    """Return all lines of the sample logs of a checkpoint."""
    files = storage.list_files(urls.join(checkpoint, SAMPLES))
    return [json.loads(line) for file in files for line in storage.read_bytes(file.url).splitlines()]


def loss_curve(checkpoint: str) -> list[float]:
    """Return the loss of every step up to a checkpoint, the first step first."""
    losses = {line["step"]: line["loss"] for line in read_sample_logs(checkpoint)}
    return [losses[step] for step in sorted(losses)]
