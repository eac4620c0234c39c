"""``bisieve diff``: compare two selections: which rollouts both have, which left, which entered, and why."""

import argparse
from typing import TYPE_CHECKING

from bisieve._text import percent
from bisieve.cli import options
from bisieve.cli.overview import SELECT
from bisieve.cli.parser import add_config
from bisieve.errors import UsageError
from bisieve.records.options import parse_fraction

if TYPE_CHECKING:
    from bisieve.api.index import Index

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
    add(
        "--other", metavar="URL",
        help="the index of the other selection (default: that of --index); without any other option, the "
        "current version of the index is compared with the one before it",
    )  # fmt: skip
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
    """Compare the selections and print the counts; with ``--output`` write the changed rollouts there.

    With nothing but an index, its version before the current one is A, and the current one is B.

    Raises:
        UsageError: A and B are the same.
    """
    from bisieve.api.comparison import compare
    from bisieve.api.functions import open_index

    fraction, other_fraction = args.fraction, args.other_fraction or args.fraction
    index = open_index(args.index, args.version)
    other = open_index(args.other or args.index, args.other_version)
    if _same(index, other) and fraction == other_fraction:
        before = None if args.version or args.other or args.other_version else other.before()
        if before is None:
            raise UsageError(
                f"two selections to compare, of {args.index} and another",
                f"version {index.fingerprint[:16]} at {percent(fraction)} twice",
                "give --other INDEX, --other-fraction F, or another --version of bisieve versions",
            )
        index = before
    options.show(compare(index.select(fraction), other.select(other_fraction), args.output), args.json)
    return 0


def _same(a: "Index", b: "Index") -> bool:
    return (a.url, a.fingerprint) == (b.url, b.fingerprint)
