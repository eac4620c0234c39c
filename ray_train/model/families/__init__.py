"""The families of vision-language models that can be trained: one module each, with a constant ``FAMILY``.

To add a family, add a module here; nothing else names it.
"""

import json
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from bisieve.errors import StorageError, TrainingError
from bisieve.io import storage
from bisieve.io.urls import canonical, join
from ray_train.model.families.base import Family
from ray_train.model.prompt_format import CHATML, Chat


def known_families() -> dict[str, Family]:
    """Return all families by the ``model_type`` of their ``config.json``."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    families = [module.FAMILY for module in modules if hasattr(module, "FAMILY")]
    return {family.model_type: family for family in families}


def family_of(model_type: str) -> Family:
    """Return the family of a config's ``model_type``; raise `TrainingError` if it is unknown."""
    families = known_families()
    if model_type not in families:
        known = " or ".join(sorted(families))
        raise TrainingError(f"a backbone of type {known}", model_type, "choose another --backbone")
    return families[model_type]


def system_and_chat(source: str) -> tuple[str, Chat]:
    """Return the system text and the chat template of the family of the model at ``source``.

    Args:
        source: folder, URL or hub id. The config of a hub id is not read: the system text is then those of
            all families, joined by newlines, and the template ChatML.

    Returns:
        An empty text and ChatML if the config cannot be read or names no known family.
    """
    families = known_families()
    if "://" not in source and not Path(source).is_dir():
        return "\n".join(families[name].system for name in sorted(families) if families[name].system), CHATML
    try:
        config = json.loads(storage.read_bytes(join(canonical(source), "config.json")))
        family = families[config["model_type"]]
    except (ValueError, KeyError, TypeError, StorageError):  # loading the model will report what is wrong
        return "", CHATML
    return family.system, family.chat
