"""The families of vision-language models that can be trained: a file each, which says all about one.

Another family is another file here, with its ``FAMILY``.
"""

import json
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from bisieve.errors import StorageError, TrainingError
from bisieve.io import storage
from ray_train.model.families.base import Family
from ray_train.model.prompt_format import CHATML, Chat


def known_families() -> dict[str, Family]:
    """By the ``model_type`` of their ``config.json``."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    families = [module.FAMILY for module in modules if hasattr(module, "FAMILY")]
    return {family.model_type: family for family in families}


def family_of(model_type: str) -> Family:
    """The family of a ``config.json``; `TrainingError` for one that has no file here."""
    families = known_families()
    if model_type not in families:
        known = " or ".join(sorted(families))
        raise TrainingError(f"a backbone of type {known}", model_type, "choose another --backbone")
    return families[model_type]


def system_and_chat(source: str) -> tuple[str, Chat]:
    """Return the system turn and the chat of the family at a folder or URL.

    Empty and ChatML where its config names no known family.  Of a hub id, whose config is not asked for here,
    the system turn is those of all families joined.
    """
    families = known_families()
    if "://" not in source and not Path(source).is_dir():
        return "\n".join(families[name].system for name in sorted(families) if families[name].system), CHATML
    try:
        config = json.loads(storage.read_bytes(storage.join(storage.canonical(source), "config.json")))
        family = families[config["model_type"]]
    except (ValueError, KeyError, TypeError, StorageError):  # the load names what is wrong
        return "", CHATML
    return family.system, family.chat
