"""``bisieve report``: print a summary of an index."""

import argparse

from bisieve import console
from bisieve.cli import options
from bisieve.cli.overview import SELECT
from bisieve.cli.parser import add_config
from bisieve.records.options import parse_fraction

GROUP = SELECT
HELP = "show what an index holds, and what selections of it look like"
EXAMPLE = "bisieve report --index index --fraction 5% 10%"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_version(parser)
    parser.add_argument(
        "--fraction", nargs="+", type=parse_fraction, metavar="F",
        help="selections to show beside the corpus (default: 10%% and 25%%)",
    )  # fmt: skip
    options.add_selecting(parser)
    options.add_json(parser)
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Print the same summary as scoring does, with all sources, and statistics of selections."""
    from bisieve.api.functions import open_index
    from bisieve.events import events_on_stderr, log_format

    index = open_index(args.index, args.version)
    asked = options.selecting(args)
    with events_on_stderr(log_format(None)) as emit:
        asked |= {"progress": emit} if asked else {}
        asked |= {"fractions": args.fraction} if args.fraction else {}
        if args.json:
            options.print_json(index.numbers(**asked))
        else:
            console.show(index.report(**asked))
    return 0
