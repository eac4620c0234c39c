"""Declare, read and write options: the fields of a dataclass as flags and keys of a TOML or YAML file.

    `option` fields of a dataclass ──add_options──▶ argparse flags ──read_config──▶ a checked config
    a checked config ──located──▶ one that workers elsewhere can use ──to_toml──▶ a file for ``--config``

A value comes from its flag, or else from the TOML or YAML file given with ``--config``, or else it is the
default.
"""

import argparse
import dataclasses
import functools
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar

from bisieve._redact import without_secrets
from bisieve._text import did_you_mean
from bisieve.cli.parser import Parser
from bisieve.errors import TrainingError, UsageError
from bisieve.io import storage
from bisieve.io.settings import read_settings, toml_value
from bisieve.io.urls import canonical, join

RUN_CONFIG = "config.toml"  # file name of a run's options

_ACTIONS = {"restart", "dry_run"}  # options of one command that are not properties of the run
_LONGEST = 40  # characters of a default that a help text shows


class Need(NamedTuple):
    """A condition without which an option has no effect."""

    flag: str  # the condition in words, such as "--lora-rank above 0"
    met: Callable[[Any], bool]  # whether a config meets it


class Checked(Protocol):
    """A dataclass of `option` fields that checks its values."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    GROUPS: ClassVar[dict[str, str]]  # titles of groups of options, each by the name of its first option

    def check(self) -> None:
        """Raise `UsageError` for a value that is not allowed."""


Config = TypeVar("Config", bound=Checked)


def option(
    help: str,
    default: Any = MISSING,
    choices: tuple[Any, ...] | None = None,
    parse: Callable[[Any], Any] | None = None,
    needs: Need | None = None,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    location: Literal["", "url", "model"] = "",
    identity: bool = True,
    added_later: bool = False,
    metavar: str = "",
) -> Any:
    """Declare a dataclass field that is also a flag and a TOML key.

    Args:
        help: Help text of the flag.
        default: Default value; without one the option is required.
        choices: Allowed values.
        parse: Converts a value of the command line or the TOML file, where the field's type alone does not;
            raises `ValueError` for a wrong one.
        needs: Condition without which the option has no effect.
        presets: For a value of this option, the values of other options that are not given themselves. The
            dataclass must be decorated with `with_presets`.
        location: ``url`` for a path or URL, ``model`` where it may also be a hub id. A relative path becomes
            absolute, since workers have other working directories.
        identity: Whether runs with other values are different runs. False for what may differ when a run is
            resumed: locations, how often something is shown or saved, machines and their memory, and how many
            rollouts go through the model at once.
        added_later: Whether the option is newer than the first runs. At its default it is not part of a run's
            identity then, so that a run that was started before can be resumed.
        metavar: What ``--help`` shows for its value, where the name of the type would tell nothing.
    """
    metadata = {
        "help": help, "choices": choices, "parse": parse, "needs": needs, "presets": presets,
        "location": location, "identity": identity, "added_later": added_later, "metavar": metavar,
    }  # fmt: skip
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


def with_presets(kind: type[Config]) -> type[Config]:
    """Decorate a dataclass so that its constructor applies the presets and ``parse`` of its options.

    A program can so give the same values as a command line, such as ``workers=2`` or ``fraction="10%"``.
    """
    init = kind.__init__
    fields = dataclasses.fields(kind)
    presets = {item.name: item.metadata["presets"] for item in fields}
    parsers = {item.name: item.metadata["parse"] for item in fields if item.metadata["parse"]}

    @functools.wraps(init)
    def complete(self: Any, **given: Any) -> None:
        for name, of_value in presets.items():
            if of_value:
                given = {**of_value.get(given.get(name), {}), **given}
        for name in parsers.keys() & given.keys():
            if isinstance(given[name], str | int | float | list | dict):
                given[name] = _parsed(name, parsers[name], given[name])
        init(self, **given)

    kind.__init__ = complete  # type: ignore[method-assign]
    return kind


def _parsed(name: str, parse: Callable[[Any], Any], value: Any) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise UsageError(f"another value for {name}", str(error), f"correct {name}") from error


def flag_of(name: str) -> str:
    """Return the flag of the field ``name``, such as ``--global-batch``."""
    return "--" + name.replace("_", "-")


def require(holds: bool, name: str, found: Any, expected: str) -> None:
    """Raise `UsageError` unless ``holds`` is true.

    Args:
        holds: Whether the value is allowed.
        name: Name of the field.
        found: Its value.
        expected: What values are allowed, in words.
    """
    if not holds:
        flag = flag_of(name)
        raise UsageError(f"{expected} for {flag}", repr(found), f"give another {flag}")


def secret_in(variable: str) -> str:
    """Return the secret in an environment variable, to be sent in a header of HTTP; "" if it is not set.

    Raises:
        UsageError: No header can have it.
    """
    secret = os.environ.get(variable, "")
    if not re.fullmatch("[!-~]*", secret):
        found = "a space, an end of line, or a character that is not ASCII"
        raise UsageError(f"{variable} of printable ASCII", found, "set it without that")
    return secret


def add_options(parser: argparse.ArgumentParser, kind: type[Config]) -> None:
    """Add a flag to ``parser`` for every field of the dataclass ``kind``, and ``--config``."""
    add = parser.add_argument
    add("--config", metavar="FILE", help="TOML or YAML file with values for the options below")
    add("--print-config", action="store_true", help="print all options as TOML for --config; do nothing else")
    if isinstance(parser, Parser):
        parser.needed |= {item.name for item in dataclasses.fields(kind) if item.default is MISSING}
    for item in dataclasses.fields(kind):
        if item.name in kind.GROUPS:
            add = parser.add_argument_group(kind.GROUPS[item.name]).add_argument
        flag = flag_of(item.name)
        text = item.metadata["help"] + _default_text(item)
        if item.type is bool:
            add(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            choices = item.metadata["choices"]
            metavar = None if choices else _metavar(item)
            kind_of = item.metadata["parse"] or item.type
            add(flag, type=kind_of, choices=choices, metavar=metavar, help=text)


def _metavar(item: "dataclasses.Field[Any]") -> str:
    """Return the placeholder of a value in a help text, in the words of the other commands."""
    places = {"url": "URL", "model": "MODEL"}
    if metavar := item.metadata["metavar"]:
        return str(metavar)
    if location := item.metadata["location"]:
        return places[location]
    if item.type is str:
        return item.name.rpartition("_")[2].upper()
    return "X" if item.type is float else "N"


def _default_text(item: "dataclasses.Field[Any]") -> str:
    if item.default is MISSING:
        return " (required)"
    is_short = 0 < len(str(item.default)) <= _LONGEST
    return f" (default: {item.default})" if is_short else ""


def read_config(kind: type[Config], args: argparse.Namespace) -> Config:
    """Return the config of parsed arguments, with local paths made absolute, after its `check`.

    Args:
        kind: The dataclass whose flags were added with `add_options`.
        args: The parsed arguments.

    Raises:
        UsageError: A required option is missing, a value is wrong, or the file has a syntax error, an
            unknown key or a value of another type.
        StorageError: The file cannot be read.
    """
    values = _read_file(args, kind) if args.config else {}
    items = dataclasses.fields(kind)
    values |= {item.name: given for item in items if (given := getattr(args, item.name)) is not None}
    _require_all([item for item in items if item.default is MISSING and item.name not in values])
    for item in items:
        if item.metadata["location"] and values.get(item.name):
            values[item.name] = _location(values[item.name], item.metadata["location"] == "model")
    for name, value in values.items():
        require(not isinstance(value, float) or math.isfinite(value), name, value, "a finite number")
    config = kind(**values)
    config.check()
    return config


def _read_file(args: argparse.Namespace, kind: type[Config]) -> dict[str, Any]:
    url, known = args.config, {item.name for item in dataclasses.fields(kind)}
    given = read_settings(url)
    for key in given:  # such as json and quiet, which are no options of a run
        if (name := key.replace("-", "_")) not in known and name in vars(args):
            raise UsageError(f"options of a run in {url}", key, f"give {flag_of(name)} on the command line")
    return typed_options(kind, given, url)


def typed_options(kind: type[Config], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return options of a file as values of the fields of ``kind``, after checking their names and types.

    Args:
        kind: The dataclass.
        given: Values by name, with ``_`` or ``-``.
        where: Where they come from, for the errors.

    Raises:
        UsageError: A name is unknown, or a value has another type.
    """
    values = {name.replace("-", "_"): value for name, value in given.items()}
    known = {item.name: item for item in dataclasses.fields(kind)}
    for key, value in values.items():
        if key not in known:
            hint = did_you_mean(key, known) or "--help lists them"
            raise UsageError(f"names of options in {where}", key, hint)
        values[key] = _typed(known[key], value, where)
    return values


def _typed(item: "dataclasses.Field[Any]", value: Any, where: str) -> Any:
    if item.type is float and type(value) is int:
        return float(value)
    if parse := item.metadata["parse"]:
        try:
            return parse(value)
        except ValueError as error:
            raise UsageError(f"{item.name} in {where}", str(error), "correct the file") from error
    choices = item.metadata["choices"]
    if type(value) is not item.type or (choices and value not in choices):
        expected = f"one of {choices}" if choices else f"a value of type {getattr(item.type, '__name__', '')}"
        raise UsageError(f"{expected} for {item.name} in {where}", repr(value), "correct the file")
    return value


def _require_all(missing: Sequence["dataclasses.Field[Any]"]) -> None:
    """Raise a `UsageError` that names all required options that are missing, if there are any."""
    if not missing:
        return
    flags = ", ".join(flag_of(item.name) for item in missing)
    if len(missing) == 1:
        raise UsageError(
            f"{flags} ({missing[0].metadata['help']})", "nothing", f"give {flags}, or its key in --config"
        )
    raise UsageError(flags, "nothing", "give them, or their keys in --config; --help says what they are")


def _location(given: str, may_be_hub_id: bool) -> str:
    """Return a local path as an absolute one; URLs and hub ids stay as they are."""
    path = Path(given).expanduser()
    is_hub_id = may_be_hub_id and not path.exists() and not given.startswith((".", "~", "/"))
    return given if "://" in given or is_hub_id else str(path.absolute())


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


def plain_options(config: Checked) -> dict[str, Any]:
    """Return the options of ``config`` by name, with values that JSON and TOML can hold."""
    values = {item.name: getattr(config, item.name) for item in dataclasses.fields(config)}
    return {name: getattr(value, "given", value) for name, value in values.items()}
