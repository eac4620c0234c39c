"""``bisieve promote``: make a model the current one, unless it is worse than the current one."""

import argparse

from bisieve import console
from bisieve.cli.overview import TRAIN
from bisieve.cli.parser import Flag, add_config
from ray_train.choices import PROMOTION_METRICS

GROUP = TRAIN
HELP = "move a pointer to a model whose metric's lower bound is not below the current one's"
EXAMPLE = "bisieve promote --model model --metrics metrics --pointer current.json"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("--model", required=True, metavar="URL", help="the model that was evaluated")
    add(
        "--metrics",
        required=True,
        metavar="URL",
        help="what bisieve evaluate wrote: the folder or metrics.json",
    )
    add("--pointer", required=True, metavar="URL", help="the JSON file that names the current model")
    add(
        "--metric",
        choices=PROMOTION_METRICS,
        default=PROMOTION_METRICS[0],
        help=f"what is compared (default: {PROMOTION_METRICS[0]})",
    )
    add("--untrained", action=Flag, help="promote a model that bisieve did not train, too")
    add(
        "--paper-eval", action=Flag,
        help="promote by an evaluation with --prompt paper-eval or --threshold test, too",
    )  # fmt: skip
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Promote the model or not, and print which; return 0 in both cases."""
    from ray_train.registry.promote import promote

    asked = (args.metric, args.untrained, args.paper_eval)
    console.show(promote(args.model, args.metrics, args.pointer, *asked))
    return 0
