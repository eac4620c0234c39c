"""The small JSON beside every trained model: prompt format, lineage, hyper-parameters, metrics."""

import json
from typing import Any

from bisieve import storage

CARD = "bisieve.json"
MODEL = "config.json"  # written last: without it nothing takes a folder for a model


def read_card(folder: str) -> dict[str, Any] | None:
    """The card of the model at the URL ``folder``; None where there is no model, or one not made by us."""
    url = storage.join(folder, CARD)
    if not storage.exists(storage.join(folder, MODEL)) or not storage.exists(url):
        return None
    card: dict[str, Any] = json.loads(storage.read_bytes(url))
    return card
