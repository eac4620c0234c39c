"""``bisieve diff``: compare two selections: which rollouts both have, which left, which entered, and why."""

import argparse

from bisieve.cli import options
from bisieve.cli.overview import SELECT
from bisieve.cli.parser import add_config
from bisieve.records.options import parse_fraction

GROUP = SELECT
HELP = "compare the selections of two indexes, or of two versions of one"


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
    from bisieve.index.versions import open_version
    from bisieve.tools.diff import Side, compare, written
    from bisieve.tools.diff_report import diff_document, diff_report, summarised
    from bisieve.tools.export import check_target

    a = Side(open_version(args.a, args.version_a), args.fraction)
    b = Side(
        open_version(args.b or args.a, args.version_b),
        args.fraction if args.fraction_b is None else args.fraction_b,
    )
    if args.output:
        for side in (a, b):
            check_target(side.index, args.output)
    diffs = compare(a, b)
    summary = summarised(written(diffs, args.output) if args.output else diffs)
    if args.json:
        options.print_json(diff_document(summary, a, b))
    else:
        print(diff_report(summary, a, b))
    return 0
