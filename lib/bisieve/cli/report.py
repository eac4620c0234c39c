"""``bisieve report``: print a summary of an index."""

import argparse

HELP = "show what an index holds: per source its rollouts, ties, rejects and where selections end"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--index", required=True, metavar="URL")
    parser.add_argument(
        "--version", metavar="FINGERPRINT",
        help="fingerprint or its first characters, as listed by bisieve versions (default: the current one)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Print the same summary as scoring does, with all sources."""
    from bisieve.index.versions import open_version
    from bisieve.tools.report import score_report

    print(score_report(open_version(args.index, args.version), args.index))
    return 0
