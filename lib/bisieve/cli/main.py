# PYTHON_ARGCOMPLETE_OK
"""The ``bisieve`` command: find the subcommand, parse its options, run it, turn errors into one line.

main, run_command ─▶ parse ─▶ guarded ─▶ run(args) of the command's module ─▶ exit code

A shell that asks for the names of commands, options and choices calls ``bisieve`` with the line so far in the
environment (``COMP_LINE``); `complete` answers it by argcomplete.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import NoReturn

from bisieve import console
from bisieve._version import __version__
from bisieve.cli.extras import distribution_with
from bisieve.cli.overview import help_text, overview
from bisieve.cli.parser import Parser, add_command
from bisieve.cli.process import (
    check_working_directory,
    collect_seldom,
    discard_stdout,
    escape_unencodable,
    full_disk,
    open_closed_streams,
    sigterm_as_interrupt,
)
from bisieve.errors import BisieveError
from bisieve.events import events_on_stderr, log_format

COMMANDS = "bisieve.commands"  # group of entry points, each a command module
INTERRUPTED = 130  # the exit code of shells after Ctrl-C: 128 + SIGINT
TERMINATED = 143  # and after SIGTERM: 128 + SIGTERM
ASKED = "_ARGCOMPLETE"  # set by the shell; its value is how many words the program's name has


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``bisieve COMMAND …`` and return the exit code; ``argv`` defaults to the process's arguments."""
    return _called(lambda: _parsed(argv), own_process=argv is None)


def run_command(module_name: str, argv: Sequence[str] | None = None) -> int:
    """Run the command of one module and return the exit code; for the scripts in ``jobs`` and ``ray_train``.

    Args:
        module_name: The full name of a command module, such as ``bisieve.cli.score``.
        argv: Its arguments; None: those of the process.
    """
    return _called(lambda: _parsed_alone(module_name, argv), own_process=argv is None)


def _called(parse: Callable[[], argparse.Namespace], own_process: bool) -> int:
    """Parse and run a command. Parsing imports its module, which is slow enough for a Ctrl-C to arrive."""
    open_closed_streams()
    if own_process:
        escape_unencodable()
        collect_seldom()
    try:
        args = parse()
    except BisieveError as error:
        return _refused(argparse.Namespace(), error)
    except KeyboardInterrupt as interrupt:
        return _interrupted(argparse.Namespace(), interrupt)
    except SystemExit as ended:  # of --help, which is printed but not flushed
        code = int(ended.code or 0)
        raise SystemExit(guarded(lambda _: code, argparse.Namespace())) from None
    with console.quiet(getattr(args, "quiet", False)):
        return guarded(args.carry_out, args)


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    own_process = argv is None
    argv = sys.argv[1:] if argv is None else argv
    points = {point.name: point for point in entry_points(group=COMMANDS)}
    if own_process and ASKED in os.environ:
        complete(points)
    parser = Parser(prog="bisieve", add_help=False)
    parser.set_defaults(without_pandas=False)
    named = argv[0] if argv else None
    if named in (None, "-h", "--help"):
        text = overview() if named is None else help_text({name: points[name].load() for name in points})
        parser.set_defaults(carry_out=lambda _: _print(text))
        return parser.parse_args([])
    if named in ("-V", "--version"):
        parser.set_defaults(carry_out=lambda _: _print(f"bisieve {__version__}\n"))
        return parser.parse_args([])
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, point in points.items():
        subparser = subparsers.add_parser(name, add_help=name == named)
        if name == named:  # no other command's module is imported
            _configure(subparser, point.load())
    args = parser.parse_args(argv)
    # Only where the process is the command's alone: a caller of `main` may need pandas.
    if own_process and args.without_pandas:
        import bisieve.local.no_pandas  # noqa: F401
    return args


def _print(text: str) -> int:
    print(text, end="")
    return 0


def complete(points: Mapping[str, EntryPoint]) -> NoReturn:
    """Write what the line in the environment can be continued with, for a shell; end the process.

    Args:
        points: The commands by name. Only the module of the command in the line is imported.
    """
    import argcomplete

    line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
    named = line.split()[int(os.environ[ASKED]) :][:1]
    # Not our own parser: it answers an unknown word with an error.
    parser = argparse.ArgumentParser(prog="bisieve", allow_abbrev=False)
    parser.add_argument("--version", action="store_true")
    commands = parser.add_subparsers()
    for name, point in points.items():
        command = commands.add_parser(name, allow_abbrev=False)
        if [name] == named:
            add_command(command, point.load())
    argcomplete.autocomplete(parser, always_complete_options="long")
    raise AssertionError("autocomplete ends the process")


def _parsed_alone(module_name: str, argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser()
    _configure(parser, import_module(module_name))
    return parser.parse_args(argv)


def _configure(parser: argparse.ArgumentParser, command: ModuleType) -> None:
    add_command(parser, command)
    parser.set_defaults(carry_out=command.run, without_pandas=getattr(command, "WITHOUT_PANDAS", False))


def guarded(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Call ``run(args)`` and turn expected errors into one line on stderr and an exit code.

    Expected are a `BisieveError`, a missing package, Ctrl-C and SIGTERM, for which the line has the notes of
    the `KeyboardInterrupt` if there are any, a full disk below stdout, and a stdout whose reader has closed
    it, for which there is no line. Other exceptions are not caught.

    Returns:
        The exit code: that of ``run`` or of the `BisieveError`; 1 for a missing package or a failing stdout;
        `INTERRUPTED` or `TERMINATED`.
    """
    terminated: list[int] = []
    try:
        with sigterm_as_interrupt(terminated):
            check_working_directory()
            code = run(args)
            sys.stdout.flush()
            return code
    except BisieveError as error:
        return _refused(args, error)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in ("bisieve", "ray_train"):
            raise
        brings = distribution_with(error.name, training=run.__module__.startswith("ray_train."))
        text = f"error: expected the package {error.name}; found it missing; pip install '{brings}' brings it"
        return _failed(args, text, 1, missing=error.name)
    except KeyboardInterrupt as interrupt:
        return _interrupted(args, interrupt, bool(terminated))
    except BrokenPipeError:  # the reader of stdout has closed it (`bisieve … | head`)
        discard_stdout()
        return 1
    except OSError as error:
        if (ours := full_disk(error)) is None:
            raise
        discard_stdout()
        return _refused(args, ours)


def _refused(args: argparse.Namespace, error: BisieveError) -> int:
    expected, found, hint = error.args
    return _failed(args, f"error: {error}", error.exit_code, expected=expected, found=found, hint=hint)


def _interrupted(args: argparse.Namespace, interrupt: KeyboardInterrupt, by_sigterm: bool = False) -> int:
    word, exit_code = ("terminated", TERMINATED) if by_sigterm else ("interrupted", INTERRUPTED)
    notes = getattr(interrupt, "__notes__", ["nothing half-written was made visible"])
    return _failed(args, "; ".join([word, *notes]), exit_code)


def _failed(args: argparse.Namespace, text: str, exit_code: int, **fields: str) -> int:
    with events_on_stderr(log_format(getattr(args, "log_format", None))) as emit:
        emit("error", f"bisieve: {text}", message=text, exit_code=exit_code, **fields)
    return exit_code
