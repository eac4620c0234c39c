"""``bisieve diff``: compare two selections: which rollouts both have, which left, which entered, and why."""

import argparse

from bisieve.cli import options
from bisieve.cli.overview import SELECT
from bisieve.cli.parser import add_config
from bisieve.records.options import parse_fraction

GROUP = SELECT
HELP = "compare the selections of two indexes, or of two versions of one"
EXAMPLE = "bisieve diff index index-10 --fraction 10%"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("a", metavar="A", help="URL of an index")
    add("b", metavar="B", nargs="?", help="URL of the other one (default: A)")
    add(
        "--fraction",
        type=parse_fraction,
        default=0.25,
        metavar="F",
        help="share of the rollouts (default: 0.25)",
    )
    add("--fraction-b", type=parse_fraction, metavar="F", help="fraction for B (default: that of A)")
    for side in "ab":
        add(
            f"--version-{side}", metavar="FINGERPRINT",
            help=f"fingerprint of a version of {side.upper()} or its first characters, "
            "as listed by bisieve versions",
        )  # fmt: skip
    options.add_json(parser)
    add("--output", metavar="URL", help="a Parquet file for the rollouts that entered or left, with reasons")
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Compare the selections and print the counts; with ``--output`` write the changed rollouts there."""
    from bisieve.api.functions import compare, open_index

    a = open_index(args.a, args.version_a).select(args.fraction)
    b = open_index(args.b or args.a, args.version_b).select(args.fraction_b or args.fraction)
    options.show(compare(a, b, args.output), args.json)
    return 0
