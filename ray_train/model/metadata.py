"""The small JSON beside every trained model: prompt format, lineage, hyper-parameters, metrics."""

import json
from typing import Any

import msgspec

from bisieve.errors import TrainingError
from bisieve.io import storage

CARD = "bisieve.json"
MODEL = "config.json"  # written last: without it nothing takes a folder for a model


class _Identity(msgspec.Struct):
    index: str


class _Config(msgspec.Struct):
    max_length: int


class _Needed(msgspec.Struct):
    """What an evaluation needs of a card."""

    run: str
    identity: _Identity
    config: _Config
    prompt_format: dict[str, Any]


def read_card(folder: str, flag: str = "--model") -> dict[str, Any] | None:
    """The card of the model at the URL ``folder``; None where there is no model, or one not made by us.

    `TrainingError`, which names ``flag``, where the card cannot be read or lacks what an evaluation needs.
    """
    url = storage.join(folder, CARD)
    if not storage.exists(storage.join(folder, MODEL)) or not storage.exists(url):
        return None
    try:
        card: dict[str, Any] = json.loads(storage.read_bytes(url))
        msgspec.convert(card, _Needed)
    except msgspec.ValidationError as error:
        raise _no_card(url, f"something else: {error}", flag) from error
    except ValueError as error:
        raise _no_card(url, "a file that is cut off or no JSON", flag) from error
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
