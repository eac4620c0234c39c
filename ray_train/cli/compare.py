"""``bisieve compare``: compare evaluations of models on the same benchmark, without the models."""

import argparse

from bisieve import console
from bisieve._text import Report, pluralize
from bisieve.cli import options
from bisieve.cli.overview import TRAIN
from bisieve.cli.parser import add_config
from bisieve.errors import UsageError

GROUP = TRAIN
HELP = "compare evaluations: the difference of every metric, with its interval"
EXAMPLE = "bisieve compare --metrics metrics/first --other metrics/second"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "--metrics",
        required=True,
        metavar="URL",
        help="what bisieve evaluate wrote (A): folder or metrics.json",
    )
    add(
        "--other", required=True, nargs="+", metavar="URL",
        help="evaluation B, or several, each of which is compared with A",
    )  # fmt: skip
    add(
        "--confidence", type=float, default=0.95, metavar="C",
        help="confidence of the intervals, in (0, 1) (default: 0.95)",
    )  # fmt: skip
    add(
        "--margin", type=float, metavar="D",
        help="call models equivalent in a metric if the interval of their difference is inside ±D",
    )  # fmt: skip
    options.add_json(parser)
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Compare each B with A and print the differences."""
    from ray_train.evaluation.compare import compare_with_each

    if not 0 < args.confidence < 1:
        hint = f"for {args.confidence:g}% give {args.confidence / 100:g}" if 1 < args.confidence < 100 else ""
        raise UsageError("a --confidence in (0, 1)", f"{args.confidence:g}", hint or "give 0.95, for example")
    if args.margin is not None and not 0 < args.margin < 1:
        raise UsageError("a --margin in (0, 1)", f"{args.margin:g}", "give 0.02, for example")
    console.phase(f"comparing with {pluralize(len(args.other), 'evaluation')}", on_stderr=True)
    found = compare_with_each(args.metrics, args.other, args.confidence, args.margin)
    if args.json:
        options.print_json([each.numbers() for each in found])
    else:
        for number, each in enumerate(found):
            console.show(Report(*([""] if number else []), *each.report().blocks))
    return 0
