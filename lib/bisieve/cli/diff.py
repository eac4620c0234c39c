"""``bisieve diff``: compare two selections: which rollouts both have, which left, which entered, and why."""

import argparse

from bisieve.cli import options
from bisieve.cli.overview import SELECT
from bisieve.cli.parser import add_config
from bisieve.records.options import parse_fraction

GROUP = SELECT
HELP = "compare the selections of two indexes, or of two versions of one"
EXAMPLE = "bisieve diff --index index --other index-10 --fraction 10%"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    options.add_version(parser)
    add(
        "--fraction",
        type=parse_fraction,
        default=0.25,
        metavar="F",
        help="share of the rollouts, as 0.25 or 25%% (default: 0.25)",
    )
    add("--other", metavar="URL", help="the index of the other selection (default: that of --index)")
    add("--other-version", metavar="FINGERPRINT", help="its version (default: the current one)")
    add(
        "--other-fraction",
        type=parse_fraction,
        metavar="F",
        help="its fraction (default: that of --fraction)",
    )
    options.add_json(parser)
    add("--output", metavar="URL", help="a Parquet file for the rollouts that entered or left, with reasons")
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Compare the selections and print the counts; with ``--output`` write the changed rollouts there."""
    from bisieve.api.functions import compare, open_index

    a = open_index(args.index, args.version).select(args.fraction)
    other = open_index(args.other or args.index, args.other_version)
    b = other.select(args.other_fraction or args.fraction)
    options.show(compare(a, b, args.output), args.json)
    return 0
