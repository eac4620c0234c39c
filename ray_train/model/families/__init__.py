"""The families of vision-language models that can be trained: a file each, which says all about one.

Another family is another file here, with its ``FAMILY``.
"""

from importlib import import_module
from pkgutil import iter_modules

from bisieve.errors import TrainingError
from ray_train.model.families.family import Family


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
