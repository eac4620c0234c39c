"""Argument parser whose errors are one line and name the option or command that was probably meant."""

import argparse
import copy
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, NoReturn

from bisieve._text import WIDTH, did_you_mean
from bisieve.errors import UsageError

_CHOICE = re.compile(r"argument (.+?): invalid choice: '(.*)' \(choose from (.*)\)", re.DOTALL)
_WITHOUT = re.compile(r"argument (.+?): expected (?:one|at least one) argument")
_BOTH = re.compile(r"argument (.+?): not allowed with argument (.+)")
_VALUED = re.compile(r"argument (.+?): ignored explicit argument '(.*)'")
_ONE_OF = re.compile(r"one of the arguments (.*) is required")
_VALUE = re.compile(r"argument (.+?): invalid (.+?) value: '(.*)'", re.DOTALL)
_KINDS = {
    "int": "an integer",
    "float": "a number",
    "alpha_or_auto": "a number or auto",
    "workers": "a number such as 4, or a range such as 2-8",
}  # names of types as argparse shows them


class Flag(argparse.BooleanOptionalAction):
    """Option without a value, which ``--no-NAME`` switches off, for example one that a config file has on."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, default=False)
        self.help = help  # as it is: some versions of Python append the default


class Parser(argparse.ArgumentParser):
    """Parser without abbreviations of options, since a new option could change the meaning of one.

    Args:
        options: Those of `argparse.ArgumentParser`.
    """

    def __init__(self, **options: Any) -> None:
        options = {"allow_abbrev": False, "formatter_class": _Formatter, **options}
        super().__init__(**options)
        self.reads_config = False  # set by `add_config`
        self.example = f"{self.prog} --help"  # set by `add_command`
        self.needed: set[str] = set()  # options, by ``dest``, that a file may give in place of the words

    def format_help(self) -> str:
        """Return the help text; its usage shows only what must be given."""
        takes_words = any(action.nargs in (argparse.PARSER, argparse.REMAINDER) for action in self._actions)
        if self.usage is None and not takes_words:
            self.usage = self._short_usage()
        return super().format_help()

    def _short_usage(self) -> str:
        groups = [group for group in self._mutually_exclusive_groups if group.required]
        one_of = [action for group in groups for action in group._group_actions]
        needed = [
            action
            for action in self._actions
            if action.required or action in one_of or action.dest in self.needed
        ]
        shown = [copy.copy(action) for action in needed if action not in one_of]
        for action in shown:
            action.required = True  # else it is in brackets
        formatter = self._get_formatter()
        others = argparse.Action([], "options", nargs="?", metavar="options")
        formatter.add_usage(None, [*shown, *one_of, others], groups)
        return formatter.format_help().removeprefix("usage: ").strip().replace("%", "%%")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments, and refuse unknown ones with the options of the subcommand that got them."""
        args = sys.argv[1:] if args is None else list(args)
        self._check_options(args)
        self._check_places(args)
        if self.reads_config and (url := _config_in(args)):
            from bisieve.cli.config_file import words_of  # imports fsspec, which takes time

            args = [*words_of(url, self._actions, self._given(args)), *args]
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            raise UsageError(f"options of {self.prog}", repr(unknown[0]), self._help_hint())
        if self.reads_config and parsed.print_config:
            from bisieve.cli.config_file import as_toml

            text = as_toml(parsed, self._actions)
            parsed.carry_out = lambda _: print(text, end="") or 0
        return parsed, []

    def _check_options(self, args: list[str]) -> None:
        """Name an unknown option, which argparse does only where no required one is missing."""
        known = {name: action for action in self._actions for name in action.option_strings}
        for word in self._own_words(args, known):
            name = word.partition("=")[0]
            if name.startswith("--") and name not in (*known, "--"):
                hint = did_you_mean(name, known) or self._help_hint()
                hint = "bisieve --version prints the version" if name == "--version" else hint
                raise UsageError(f"an option of {self.prog}", name, hint)

    def _own_words(self, args: list[str], known: Mapping[str, argparse.Action]) -> list[str]:
        """Return the words before the name of another command, whose parser gets that and all others."""
        if not any(action.nargs in (argparse.PARSER, argparse.REMAINDER) for action in self._actions):
            return args
        is_value = False
        for place, word in enumerate(args):
            if not is_value and not word.startswith("-"):
                return args[:place]
            is_value = not is_value and word in known and known[word].nargs != 0
        return args

    def _check_places(self, args: list[str]) -> None:
        """Name the option for a place that is given without one, as in ``bisieve report index``."""
        takes_words = any(not action.option_strings for action in self._actions)
        if takes_words or not args or args[0].startswith("-"):
            return
        needed = [action for action in self._actions if action.required or action.dest in self.needed]
        groups = [group._group_actions for group in self._mutually_exclusive_groups if group.required]
        names = [action.option_strings[-1] for action in (needed[:1] or next(iter(groups), []))]
        meant = " or ".join(f"{name} {args[0]}" for name in names)
        hint = f"did you mean {meant}?" if 0 < len(names) < 5 else self._help_hint()
        raise UsageError(f"options of {self.prog}", repr(args[0]), hint)

    def _given(self, args: list[str]) -> set[str]:
        """Return the options, by ``dest``, that ``args`` give, or exclude by giving another one."""
        names = {word.partition("=")[0] for word in args}
        given = {action.dest for action in self._actions if names & set(action.option_strings)}
        for group in self._mutually_exclusive_groups:
            dests = {action.dest for action in group._group_actions}
            given |= dests if dests & given else set()
        return given

    def error(self, message: str) -> NoReturn:
        """Raise a `UsageError` in place of argparse's message of several lines."""
        required = "the following arguments are required: "
        if message.startswith(required):
            raise self._missing(message.removeprefix(required))
        if group := _ONE_OF.fullmatch(message):
            raise UsageError(f"one of {', '.join(group[1].split())}", "none", self._help_hint())
        if without := _WITHOUT.fullmatch(message):
            raise UsageError(f"a value for {without[1]}", "none", self._help_hint())
        if both := _BOTH.fullmatch(message):
            raise UsageError(f"{both[2]} or {both[1]}", "both", "leave out one")
        if valued := _VALUED.fullmatch(message):
            raise UsageError(f"{valued[1]} without a value", valued[2], "leave out the value")
        if wrong := _CHOICE.fullmatch(message):
            where, given, choices = wrong.groups()
            known = re.findall(r"[\w.-]+", choices)
            what = "a command of bisieve" if where == "COMMAND" else f"{', '.join(known)} for {where}"
            raise UsageError(what, given, did_you_mean(given, known) or self._help_hint())
        if wrong := _VALUE.fullmatch(message):
            where, kind, given = wrong.groups()
            raise UsageError(f"{_KINDS.get(kind, f'a {kind}')} for {where}", given, self._help_hint())
        raise UsageError(f"arguments of {self.prog}", message.removeprefix("argument "), self._help_hint())

    def _missing(self, names: str) -> UsageError:
        """Return the error for missing options, or for a missing word, whose name would tell nothing."""
        for action in self._actions:
            name = str(action.metavar or action.dest)
            if not action.option_strings and name in names.split(", "):
                return UsageError(str(action.help), "none", f"for example {self.example}")
        return UsageError(names, "none", self._help_hint())

    def _help_hint(self) -> str:
        return f"see {self.prog} --help"


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str, **options: Any) -> None:
        width = min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH)
        super().__init__(prog, **{"max_help_position": 30, "width": width, **options})

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if isinstance(action, argparse.BooleanOptionalAction):
            return f"--[no-]{action.option_strings[0].removeprefix('--')}"
        return super()._format_action_invocation(action)


def add_command(parser: argparse.ArgumentParser, command: ModuleType) -> None:
    """Declare the options of a command, and ``--quiet``, which every command has.

    Args:
        parser: Gets them, and what ``--help`` prints around them.
        command: The module of the command, with ``HELP``, ``EXAMPLE`` and ``configure(parser)``.
    """
    parser.description, parser.epilog = command.HELP, f"example:\n  {command.EXAMPLE}"
    if isinstance(parser, Parser):
        parser.example = command.EXAMPLE
    command.configure(parser)
    parser.add_argument("--quiet", action=Flag, help="print results, warnings and errors, but no progress")


def add_config(parser: argparse.ArgumentParser) -> None:
    """Declare ``--config`` and ``--print-config``, which a `Parser` carries out by itself."""
    if isinstance(parser, Parser):
        parser.reads_config = True
    add = parser.add_argument_group("configuration").add_argument
    add("--config", metavar="FILE", help="TOML or YAML file with values for options; the command line wins")
    add("--print-config", action="store_true", help="print the options as TOML for --config; do nothing else")


def _config_in(args: list[str]) -> str | None:
    """Return the file of ``--config``, if it is among ``args``; the last one counts."""
    config = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    config.add_argument("--config")
    try:
        return config.parse_known_args(args)[0].config  # type: ignore[no-any-return]
    except argparse.ArgumentError:
        return None  # without a value, which the command's own parser refuses
