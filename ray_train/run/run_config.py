"""The resolved config of a run as TOML that ``--config`` reads back, without what must not be shown."""

import json
from typing import Any

from bisieve.credentials import without_secrets
from ray_train.config import TrainConfig, plain_options

RUN_CONFIG = "config.toml"
_ACTIONS = {"restart"}  # what was done once, and is no property of the run


def to_toml(config: TrainConfig, comment: str) -> str:
    """All options of ``config``, a line each, below ``comment``."""
    lines = [f"{name} = {_toml(value)}\n" for name, value in parameters(config).items()]
    return "".join([f"# {comment}\n", *lines])


def parameters(config: TrainConfig) -> dict[str, Any]:
    """The options of ``config`` by name, fit to be shown; those that have no value are left out."""
    values = {name: value for name, value in plain_options(config).items() if name not in _ACTIONS}
    return {
        name: without_secrets(value) if isinstance(value, str) else value
        for name, value in values.items()
        if value is not None
    }


def _toml(value: Any) -> str:
    """A TOML value: JSON's but for floats that are no numbers in JSON, and DEL, which TOML escapes."""
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
