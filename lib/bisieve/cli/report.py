"""``bisieve report``: what an index holds."""

import argparse

HELP = "show what an index holds: per source its rollouts, ties, rejects and where selections end"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--index", required=True, metavar="URL")
    parser.add_argument(
        "--version", metavar="FINGERPRINT",
        help="as bisieve versions lists it, or how it begins (default: the current one)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Prints the table that scoring printed."""
    from bisieve.index.versions import open_version
    from bisieve.tools.report import score_report

    print(score_report(open_version(args.index, args.version), args.index))
    return 0
