"""``bisieve report``: print a summary of an index."""

import argparse

from bisieve.cli import options
from bisieve.cli.overview import SELECT
from bisieve.cli.parser import add_config

GROUP = SELECT
HELP = "show what an index holds: rollouts, ties, rejects, and where selections end"
EXAMPLE = "bisieve report --index index --json"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_version(parser)
    options.add_json(parser)
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Print the same summary as scoring does, with all sources."""
    from bisieve.api.functions import open_index

    options.show(open_index(args.index, args.version), args.json)
    return 0
