"""Where a run's folders and models lie, told so that every process on every machine finds them."""

import dataclasses
import re
from pathlib import Path
from typing import Any, TypeVar

from bisieve import storage
from bisieve.errors import TrainingError
from ray_train.config import EvaluateConfig, TrainConfig

Config = TypeVar("Config", TrainConfig, EvaluateConfig)


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
