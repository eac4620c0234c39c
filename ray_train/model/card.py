"""The small JSON beside every trained model: prompt format, lineage, hyper-parameters, metrics."""

import json
from functools import reduce
from operator import getitem
from typing import Any

from bisieve import storage
from bisieve.errors import TrainingError

CARD = "bisieve.json"
MODEL = "config.json"  # written last: without it nothing takes a folder for a model
_NEEDED = (("run",), ("identity", "index"), ("config", "max_length"), ("prompt_format",))


def read_card(folder: str, flag: str = "--model") -> dict[str, Any] | None:
    """The card of the model at the URL ``folder``; None where there is no model, or one not made by us.

    `TrainingError`, which names ``flag``, where the card cannot be read or lacks what an evaluation needs.
    """
    url = storage.join(folder, CARD)
    if not storage.exists(storage.join(folder, MODEL)) or not storage.exists(url):
        return None
    try:
        card: dict[str, Any] = json.loads(storage.read_bytes(url))
    except ValueError as error:
        raise _no_card(url, "a file that is cut off or no JSON", flag) from error
    try:
        for path in _NEEDED:
            reduce(getitem, path, card)
    except (KeyError, TypeError) as error:
        raise _no_card(url, f"one without {'.'.join(path)}", flag) from error
    return card


def require_kappa(card: dict[str, Any] | None, model: str) -> str:
    """The name of the file that holds the κ head of ``model``; `TrainingError` where it has none."""
    if card is None or "kappa" not in card:
        raise TrainingError(
            "a model trained with --objective beta-binomial for --risk",
            f"no κ head at {model}",
            "leave out --risk",
        )
    return str(card["kappa"])


def _no_card(url: str, found: str, flag: str) -> TrainingError:
    return TrainingError(f"a card as bisieve train writes it at {url}", found, f"check {flag}")
