"""Check a backbone by its config.json alone, before Ray starts and before any weights are downloaded."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from bisieve.errors import StorageError, TrainingError
from bisieve.io import storage
from bisieve.io.urls import basename, canonical, is_reachable, join
from ray_train.model.families import known_families
from ray_train.model.families.base import Family
from ray_train.model.metadata import CARD, read_card


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
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(
            f"{CARD} of {source}, or an answer that there is none", reason, f"check {flag}"
        ) from error
    return read_card(str(Path(card).parent), flag)


def hub_answers() -> bool:
    """Return whether the hub may be used and accepts connections.

    Without this check the hub's library would retry for minutes. False with ``HF_HUB_OFFLINE``.
    """
    hub: Any = import_module("huggingface_hub.constants")
    return not hub.HF_HUB_OFFLINE and is_reachable(hub.ENDPOINT)


def _is_folder(source: str) -> bool:
    return "://" in source or Path(source).is_dir()


def _read_config(source: str, flag: str) -> bytes:
    if _is_folder(source):
        return storage.read_bytes(join(canonical(source), "config.json"))
    hub: Any = import_module("huggingface_hub")
    answers = hub_answers()
    try:
        return Path(hub.hf_hub_download(source, "config.json", local_files_only=not answers)).read_bytes()
    except Exception as error:  # the hub's library raises any type
        reason = " ".join(str(error).split())[:200] if answers else "the hub does not answer"
        raise TrainingError(
            f"a model at {source}", f"no such folder here, and looked up as a hub id: {reason}",
            f"check {flag}",
        ) from error  # fmt: skip
