"""The resolved config of a run: canonical URLs, and TOML that ``--config`` reads back."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from bisieve._redact import without_secrets
from bisieve.errors import TrainingError
from bisieve.io import storage
from ray_train.config import EvaluateConfig, TrainConfig, plain_options

RUN_CONFIG = "config.toml"
_ACTIONS = {"restart"}  # what was done once, and is no property of the run

Config = TypeVar("Config", TrainConfig, EvaluateConfig)


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


def located(config: Config) -> Config:
    """``config`` with canonical URLs: workers run in folders, and on machines, of their own."""
    places: dict[str, Any] = {}
    for name in ("index", "image_root", "output", "benchmark"):
        if hasattr(config, name):
            places[name] = storage.canonical(getattr(config, name))
    source = "backbone" if isinstance(config, TrainConfig) else "model"
    places[source] = _model_source(getattr(config, source), "--" + source)
    return dataclasses.replace(config, **places)


def _model_source(source: str, flag: str) -> str:
    """A canonical URL with a ``config.json`` below it, or a hub id, whose weights the workers fetch."""
    is_hub_id = re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", source) and not Path(source).exists()
    if is_hub_id:
        return source
    url = storage.canonical(source)
    if not storage.exists(storage.join(url, "config.json")):
        raise TrainingError(f"a model (config.json) at {source}", "none", f"check {flag}")
    return url
