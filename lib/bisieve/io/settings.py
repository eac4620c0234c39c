"""Read options from a TOML or YAML file, and write them as TOML."""

import json
import tomllib
from pathlib import PurePosixPath
from typing import Any

from bisieve.errors import UsageError
from bisieve.io.storage import read_bytes


def read_settings(url: str) -> dict[str, Any]:
    """Read the options in a file: YAML if its name ends with .yaml or .yml, else TOML.

    Raises:
        UsageError: The file has a syntax error, or is not a table of options.
        StorageError: It cannot be read.
    """
    is_yaml = PurePosixPath(url).suffix in (".yaml", ".yml")
    kind = "YAML" if is_yaml else "TOML"
    try:
        text = read_bytes(url).decode()
        found = _parse_yaml(text) if is_yaml else tomllib.loads(text)
    except ValueError as error:  # base class of the errors of TOML and of UTF-8
        raise UsageError(f"a {kind} file at {url}", str(error), "correct the file") from error
    if not isinstance(found, dict):
        raise UsageError(
            f"options by name in {url}", type(found).__name__, "write a line for each: name: value"
        )
    return {str(name): value for name, value in found.items()}


def _parse_yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def toml_value(value: Any) -> str:
    """Format a TOML value: like JSON, except for non-finite floats and for DEL, which TOML must escape."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(name)} = {toml_value(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return _quoted(value)


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
