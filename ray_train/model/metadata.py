"""What a model says of itself: its family in ``config.json``, and its card, ``bisieve.json``.

A model that bisieve trained has a card: prompt format, lineage, hyper-parameters, metrics. Both are read
before Ray starts and before any weights are downloaded. Imports neither torch nor Ray.
"""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from bisieve._text import one_line
from bisieve.errors import StorageError, TrainingError
from bisieve.io import storage
from bisieve.io.urls import basename, canonical, join
from ray_train.model.families import Family, known_families
from ray_train.model.files import hub_answers

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


def check_model(source: str, flag: str) -> Family:
    """Return the family of the model at ``source``.

    Args:
        source: hub id, folder or URL; of a hub id only config.json is downloaded.
        flag: the option that named it, for errors.

    Raises:
        TrainingError: there is no model, or its config.json names no known family.
        StorageError: config.json cannot be read at a folder or URL.
    """
    return _check_config(_read_config(source, flag), source, flag)


def check_visible_model(source: str, flag: str) -> None:
    """Run `check_model` if config.json can be read from this machine; else do nothing.

    A model that cannot be read here may be readable where the job will run.
    """
    try:
        text = _read_config(source, flag)
    except (StorageError, TrainingError, ModuleNotFoundError):
        return
    _check_config(text, source, flag)


def _read_config(source: str, flag: str) -> bytes:
    if _is_folder(source):
        return storage.read_bytes(join(canonical(source), "config.json"))
    hub: Any = import_module("huggingface_hub")
    answers = hub_answers()
    try:
        return Path(hub.hf_hub_download(source, "config.json", local_files_only=not answers)).read_bytes()
    except Exception as error:  # the hub's library raises any type
        reason = one_line(error) if answers else "the hub does not answer"
        raise TrainingError(
            f"a model at {source}", f"no such folder here, and looked up as a hub id: {reason}",
            f"check {flag}",
        ) from error  # fmt: skip


def _is_folder(source: str) -> bool:
    return "://" in source or Path(source).is_dir()


def _check_config(text: bytes, source: str, flag: str) -> Family:
    try:
        config = json.loads(text)
    except ValueError as error:
        raise TrainingError(f"JSON in config.json of {source}", str(error), f"check {flag}") from error
    found = config.get("model_type") if isinstance(config, dict) else None
    families = known_families()
    if found in families:
        return families[found]
    known = " or ".join(sorted(families))
    if found == "internvl_chat":
        name = basename(source)
        raise TrainingError(
            f"InternVL in Hugging Face's own format (model_type internvl) at {source}",
            "the original one, which runs code of its own (auto_map)",
            f"use its -hf checkpoint, as {flag} OpenGVLab/{name}-hf",
        )
    raise TrainingError(f"a backbone of type {known} at {source}", str(found), f"choose another {flag}")


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


def _no_card(url: str, found: str, flag: str) -> TrainingError:
    return TrainingError(f"a valid model card ({CARD}) at {url}", found, f"check {flag}")


def card_of(source: str, flag: str = "--model") -> dict[str, Any] | None:
    """Return the card of a model that passed `check_model`; None if bisieve did not train it.

    Raises:
        TrainingError: the card is invalid, or the hub fails.
        StorageError: the store fails.
    """
    if _is_folder(source):
        return read_card(source, flag)
    hub: Any = import_module("huggingface_hub")
    answers = hub_answers()
    try:
        card = hub.hf_hub_download(source, CARD, local_files_only=not answers)
    except import_module("huggingface_hub.errors").EntryNotFoundError:
        return None
    except Exception as error:  # the hub's library raises any type
        reason = one_line(error)
        raise TrainingError(
            f"{CARD} of {source}, or an answer that there is none", reason, f"check {flag}"
        ) from error
    return read_card(str(Path(card).parent), flag)


def trained_card(model: str) -> dict[str, Any]:
    """Return the card of a model that bisieve trained.

    Args:
        model: Folder or URL, as the user gave it.

    Raises:
        TrainingError: There is no such model, or its card is damaged.
        StorageError: The store fails.
    """
    url = canonical(model)
    card = read_card(url)
    if card is None:
        expected = f"a model that bisieve trained, with {CARD}, at {model}"
        found = f"no {MODEL}" if storage.exists(join(url, CARD)) else "none"
        raise TrainingError(expected, found, "give the folder that train wrote")
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
