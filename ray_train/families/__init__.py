"""The families of vision-language models that can be trained: a file each."""

from bisieve.errors import TrainingError
from ray_train.families import internvl, qwen2_5_vl, qwen3_vl
from ray_train.families.family import Family

FAMILIES: dict[str, Family] = {
    family.model_type: family for family in (internvl.FAMILY, qwen2_5_vl.FAMILY, qwen3_vl.FAMILY)
}


def family_of(model_type: str) -> Family:
    """The family of a ``config.json``; `TrainingError` for one that has no file here."""
    if model_type not in FAMILIES:
        known = " or ".join(sorted(FAMILIES))
        raise TrainingError(f"a backbone of type {known}", model_type, "choose another --backbone")
    return FAMILIES[model_type]
