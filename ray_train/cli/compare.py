"""``bisieve compare``: compare evaluations of models on the same benchmark, without the models."""

import argparse

from bisieve.cli import options
from bisieve.cli.overview import TRAIN
from bisieve.cli.parser import add_config
from bisieve.errors import UsageError

GROUP = TRAIN
HELP = "compare evaluations: the difference of every metric, with its interval"
EXAMPLE = "bisieve compare metrics/first metrics/second"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("a", metavar="A", help="what bisieve evaluate wrote: the folder or metrics.json")
    add("b", metavar="B", nargs="+", help="one or more others, each of which is compared with A")
    add(
        "--confidence", type=float, default=0.95, metavar="C",
        help="confidence of the intervals, in (0, 1) (default: 0.95)",
    )  # fmt: skip
    options.add_json(parser)
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Compare each B with A and print the differences."""
    from ray_train.evaluation.compare import compare_evaluations

    if not 0 < args.confidence < 1:
        raise UsageError("a --confidence in (0, 1)", str(args.confidence), "correct it")
    found = [compare_evaluations(args.a, b, args.confidence) for b in args.b]
    if args.json:
        options.print_json([each.numbers() for each in found])
    else:
        print("\n\n".join(each.report() for each in found))
    return 0
