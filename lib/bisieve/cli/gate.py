"""``bisieve gate``: check whether the current version of an index may be used for training."""

import argparse
import sys

from bisieve.cli import options
from bisieve.cli.overview import SELECT
from bisieve.cli.parser import add_config
from bisieve.records.options import parse_fraction
from bisieve.tools.gate import Limits

GROUP = SELECT
HELP = "check the current version of an index against limits; fail if a value exceeds its limit"
EXAMPLE = "bisieve gate --index index --max-reject-rate 0.02"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add, limits = parser.add_argument, Limits()
    add("--index", required=True, metavar="URL", help="the index")
    add("--against", metavar="FINGERPRINT", help="what to compare with (default: the last that passed)")
    add(
        "--fraction",
        type=parse_fraction,
        default=0.25,
        metavar="F",
        help="fraction whose selections are compared (default: 0.25)",
    )
    add(
        "--max-reject-rate", type=float, default=limits.reject_rate, metavar="SHARE",
        help=f"rejected records of all (default: {limits.reject_rate})",
    )  # fmt: skip
    add(
        "--max-mixture-drift", type=float, default=limits.mixture_drift, metavar="SHARE",
        help=f"change of a source's share of mixed rollouts, absolute (default: {limits.mixture_drift})",
    )  # fmt: skip
    add(
        "--max-score-drift", type=float, default=limits.score_drift, metavar="SHARE",
        help=f"change of the BIS at which a source's selection ends, relative "
        f"(default: {limits.score_drift})",
    )  # fmt: skip
    add(
        "--max-lost", type=float, default=limits.lost, metavar="SHARE",
        help=f"rollouts of a source that are gone (default: {limits.lost})",
    )  # fmt: skip
    add(
        "--min-rollouts", type=int, default=limits.min_rollouts, metavar="N",
        help=f"sources with fewer are compared as one (default: {limits.min_rollouts})",
    )  # fmt: skip
    options.add_json(parser)
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Compare the current version with an earlier one, by default the last that passed; print the table.

    If the current version passes, it is recorded in the index as passed, and its name is printed as the last
    line, where a scheduler reads it.

    Raises:
        GateError: A value exceeds its limit.
    """
    from bisieve.api.comparison import check_gate
    from bisieve.api.functions import open_index

    limits = Limits(
        args.max_reject_rate, args.max_mixture_drift, args.max_score_drift, args.max_lost, args.min_rollouts
    )
    check = check_gate(open_index(args.index), args.against, args.fraction, limits)
    options.show(check, args.json)
    sys.stdout.flush()  # before the error, if stdout and stderr are the same stream
    check.require()
    if not args.json:
        print(check.version)
    return 0
