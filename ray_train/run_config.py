"""The resolved config of a run: canonical URLs (`located`), and TOML for ``--config`` (`to_toml`)."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from bisieve._redact import without_secrets
from bisieve.errors import TrainingError
from bisieve.io import storage
from bisieve.io.settings import toml_value
from bisieve.io.urls import canonical, join
from ray_train.config_io import Checked, flag_of, plain_options

RUN_CONFIG = "config.toml"
_ACTIONS = {"restart", "dry_run"}  # options of one command that are not properties of the run

Config = TypeVar("Config", bound=Checked)


def to_toml(config: Checked, comment: str, used: Mapping[str, Any] | None = None) -> str:
    """Format all options of ``config`` as TOML, one per line, without secrets.

    Args:
        config: Options of the run.
        comment: First line of the file.
        used: Resolved values of options that default to 'auto', by name. They become comments, so that the
            file lets another machine choose again.
    """
    lines = [f"{name} = {toml_value(value)}{_resolved(value, (used or {}).get(name))}\n"
             for name, value in parameters(config).items()]  # fmt: skip
    return "".join([f"# {comment}\n", *lines])


def _resolved(given: Any, used: Any) -> str:
    return "" if used is None or used == given else f"  # {used}"


def parameters(config: Checked) -> dict[str, Any]:
    """Return the options of ``config`` by name, without secrets; options with the value None are left out."""
    values = {name: value for name, value in plain_options(config).items() if name not in _ACTIONS}
    return {
        name: without_secrets(value) if isinstance(value, str) else value
        for name, value in values.items()
        if value is not None
    }


def located(config: Config) -> Config:
    """Return ``config`` with canonical URLs, since workers run in other folders and on other machines.

    Raises:
        TrainingError: The backbone or model is neither a hub id nor a folder with a ``config.json``.
    """
    places: dict[str, str] = {}
    for item in dataclasses.fields(config):
        if item.metadata["location"]:
            given = getattr(config, item.name)
            if not given:
                continue
            is_model = item.metadata["location"] == "model"
            places[item.name] = _model_source(given, flag_of(item.name)) if is_model else canonical(given)
    return dataclasses.replace(config, **places)


def _model_source(source: str, flag: str) -> str:
    """Return a hub id as it is, or the canonical URL of a folder after checking its ``config.json``."""
    is_hub_id = re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", source) and not Path(source).exists()
    if is_hub_id:
        return source
    url = canonical(source)
    if not storage.exists(join(url, "config.json")):
        raise TrainingError(f"a model (config.json) at {source}", "none", f"check {flag}")
    return url
