"""The resolved config of a run as TOML that ``--config`` reads back, without what must not be shown."""

import json
from collections.abc import Mapping
from typing import Any

from bisieve.masking import without_secrets
from ray_train.config import TrainConfig, plain_options

RUN_CONFIG = "config.toml"
_ACTIONS = {"restart"}  # what was done once, and is no property of the run


def to_toml(config: TrainConfig, comment: str, used: Mapping[str, Any] | None = None) -> str:
    """All options of ``config``, a line each, below ``comment``; behind an option what it came to.

    ``used`` tells that of options such as "auto".  It stands in a comment, so that on another machine the
    file leaves the choice open again.
    """
    lines = [f"{name} = {_toml(value)}{_came_to(value, (used or {}).get(name))}\n"
             for name, value in parameters(config).items()]  # fmt: skip
    return "".join([f"# {comment}\n", *lines])


def _came_to(given: Any, used: Any) -> str:
    return "" if used is None or used == given else f"  # {used}"


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
