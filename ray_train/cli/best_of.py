"""``bisieve best-of``: pick the best of N responses with an MPRM, and measure how often the pick is right."""

import argparse

from bisieve import console
from bisieve.cli import options
from bisieve.cli.overview import TRAIN
from ray_train.cli import IMPORTING
from ray_train.config_io import add_options, read_config, to_toml
from ray_train.evaluation.config import BestOfConfig

GROUP = TRAIN
HELP = "pick the best of N responses to each question, and measure the accuracy"
EXAMPLE = "bisieve best-of --model model --candidates candidates.jsonl --image-root images --output picks"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_options(parser, BestOfConfig)
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Pick and return the exit code; report the picks to OpenLineage if configured.

    With ``--json`` stdout gets the content of ``best-of.json`` alone, and all text goes to stderr.
    """
    config = read_config(BestOfConfig, args)
    if args.print_config:
        print(to_toml(config, "bisieve best-of --config FILE"), end="")
        return 0
    with options.text_beside(args.json):
        console.phase(IMPORTING)
    from bisieve.io.urls import canonical
    from bisieve.tools.openlineage import lineage_events
    from ray_train.evaluation.best_of import best_of

    candidates, output = canonical(config.candidates), canonical(config.output)
    with (
        lineage_events("best-of", [config.model, candidates], [output]) as datasets,
        options.text_beside(args.json),
    ):
        numbers = best_of(config)
        datasets.versions |= {config.model: numbers["run"]} if numbers["run"] else {}
    if args.json:
        options.print_json(numbers)
    return 0
