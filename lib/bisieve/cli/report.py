"""``bisieve report``: print a summary of an index."""

import argparse

from bisieve.cli import options
from bisieve.cli.overview import SELECT
from bisieve.cli.parser import add_config

GROUP = SELECT
HELP = "show what an index holds: rollouts, ties, rejects, and where selections end"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--index", required=True, metavar="URL")
    parser.add_argument(
        "--version", metavar="FINGERPRINT",
        help="fingerprint or its first characters, as listed by bisieve versions (default: the current one)",
    )  # fmt: skip
    options.add_json(parser)
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Print the same summary as scoring does, with all sources."""
    from bisieve.index.versions import open_version
    from bisieve.tools.report import report_document, score_report

    index = open_version(args.index, args.version)
    if args.json:
        options.print_json(report_document(index, args.index))
    else:
        print(score_report(index, args.index))
    return 0
