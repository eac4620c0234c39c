"""Completion in a shell: argcomplete answers it with the names of commands, options and choices.

The shell calls ``bisieve`` with the line so far in the environment (``COMP_LINE``), and `complete` ends the
process.
"""

import os
from argparse import ArgumentParser
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from typing import NoReturn

ASKED = "_ARGCOMPLETE"  # set by the shell; its value is how many words the program's name has


def complete(points: Mapping[str, EntryPoint]) -> NoReturn:
    """Write what the line in the environment can be continued with; end the process.

    Args:
        points: The commands by name. Only the module of the command in the line is imported.
    """
    import argcomplete

    from bisieve.cli.parser import add_command

    line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
    named = line.split()[int(os.environ[ASKED]) :][:1]
    # Not our own parser: it answers an unknown word with an error.
    parser = ArgumentParser(prog="bisieve", allow_abbrev=False)
    parser.add_argument("--version", action="store_true")
    commands = parser.add_subparsers()
    for name, point in points.items():
        command = commands.add_parser(name, allow_abbrev=False)
        if [name] == named:
            add_command(command, point.load())
    argcomplete.autocomplete(parser, always_complete_options="long")
    raise AssertionError("autocomplete ends the process")
