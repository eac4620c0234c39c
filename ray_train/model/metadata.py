"""The card of a trained model, ``bisieve.json``: prompt format, lineage, hyper-parameters, metrics.

Imports neither torch nor Ray.
"""

import json
from typing import Any

import msgspec

from bisieve.errors import TrainingError
from bisieve.io import storage
from bisieve.io.urls import canonical, join

CARD = "bisieve.json"
MODEL = "config.json"  # written last: a folder without it is not a model yet


class _Identity(msgspec.Struct):
    index: str


class _Config(msgspec.Struct):
    max_length: int


class _Needed(msgspec.Struct):
    """The fields of a card that an evaluation needs."""

    run: str
    identity: _Identity
    config: _Config
    prompt_format: dict[str, Any]


def read_card(folder: str, flag: str = "--model") -> dict[str, Any] | None:
    """Return the card of the model at the URL ``folder``.

    None if there is no model, or one that bisieve did not train.

    Raises:
        TrainingError: the card is not JSON or lacks a field that an evaluation needs; names ``flag``.
        StorageError: the store fails.
    """
    url = join(folder, CARD)
    if not storage.exists(join(folder, MODEL)) or not storage.exists(url):
        return None
    try:
        card: dict[str, Any] = json.loads(storage.read_bytes(url))
        msgspec.convert(card, _Needed)
    except msgspec.ValidationError as error:
        raise _no_card(url, f"something else: {error}", flag) from error
    except ValueError as error:
        raise _no_card(url, "a file that is truncated or not JSON", flag) from error
    return card


def trained_card(model: str) -> dict[str, Any]:
    """Return the card of a model that bisieve trained.

    Args:
        model: Folder or URL, as the user gave it.

    Raises:
        TrainingError: There is no such model, or its card is damaged.
        StorageError: The store fails.
    """
    card = read_card(canonical(model))
    if card is None:
        expected = f"a model that bisieve trained, with {CARD}, at {model}"
        raise TrainingError(expected, "none", "give the folder that train wrote")
    return card


def require_kappa(card: dict[str, Any] | None, model: str) -> str:
    """Return the file name of the κ head of ``model``; raise `TrainingError` if it has none.

    ``model`` is what the user named, for the error.
    """
    if card is None or "kappa" not in card:
        raise TrainingError(
            "a model trained with --objective beta-binomial for --risk",
            f"no κ head at {model}",
            "leave out --risk",
        )
    return str(card["kappa"])


def _no_card(url: str, found: str, flag: str) -> TrainingError:
    return TrainingError(f"a valid model card ({CARD}) at {url}", found, f"check {flag}")
