"""Options from a file as words of a command line (``--config``), and back as TOML (``--print-config``)."""

import argparse
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from bisieve._text import did_you_mean
from bisieve.errors import UsageError
from bisieve.io.settings import read_settings, toml_value

_NOT_IN_FILES = ("help", "config", "print_config")


def words_of(url: str, actions: Sequence[argparse.Action], given: Collection[str] = ()) -> list[str]:
    """Return the options in a file as words of a command line.

    Args:
        url: The file; its keys are names of options, with ``_`` or ``-``.
        actions: The options of the command.
        given: Options, by ``dest``, that the command line decides; their values in the file are left out.

    Raises:
        UsageError: A key is not an option, or its value has a wrong form.
    """
    known = {action.dest: action for action in actions if action.dest not in _NOT_IN_FILES}
    words: list[str] = []
    for key, value in read_settings(url).items():
        name = key.replace("-", "_")
        if name not in known:
            hint = did_you_mean(name, known) or "--help lists them"
            raise UsageError(f"names of options in {url}", key, hint)
        of_file = list(_words(known[name], value, f"{key} in {url}"))
        words += [] if name in given else of_file
    return words


def _words(action: argparse.Action, value: Any, where: str) -> Iterator[str]:
    flag = action.option_strings[-1] if action.option_strings else None
    values = value if isinstance(value, list) else [value]
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise UsageError(f"true or false for {where}", repr(value), "correct the file")
        yield action.option_strings[0 if value else -1]
    elif any(isinstance(one, dict | list) or one is None for one in values):
        raise UsageError(f"a value or a list of values for {where}", repr(value), "correct the file")
    elif isinstance(value, list) and action.nargs is None and not isinstance(action.default, list):
        raise UsageError(f"one value for {where}", repr(value), "correct the file")
    elif action.nargs in ("+", "*"):
        yield from [*([flag] if flag else []), *map(str, values)]
    else:
        for one in values:
            yield from [f"{flag}={one}"] if flag else [str(one)]


def as_toml(args: argparse.Namespace, actions: Sequence[argparse.Action]) -> str:
    """Return the values of all options as TOML; options without a value are left out."""
    lines = []
    for action in actions:
        value = getattr(args, action.dest, None)
        if action.dest not in _NOT_IN_FILES and value is not None and value != []:
            lines.append(f"{action.dest} = {toml_value(value)}\n")
    return "".join(lines)
