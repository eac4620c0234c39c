"""``bisieve sweep``: find out how much of a corpus is enough, and by which selection."""

import argparse

from bisieve import console
from bisieve.cli import options
from bisieve.cli.overview import TRAIN
from ray_train.cli import IMPORTING
from ray_train.config_io import add_options, read_config, to_toml
from ray_train.sweeps.config import SweepConfig

GROUP = TRAIN
HELP = "train and evaluate on many selections, and say which fraction is enough"
EXAMPLE = "bisieve sweep --config sweep.yaml --max-hours 8"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_options(parser, SweepConfig)
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Make the trials, print the answer, and return the exit code.

    With ``--json`` stdout gets the content of ``sweep.json`` alone, and all text goes to stderr; with
    ``--dry-run``, or if no trial has a result yet, it gets the trials.
    """
    config = read_config(SweepConfig, args)
    if args.print_config:
        print(to_toml(config, "bisieve sweep --config FILE"), end="")
        return 0
    with options.text_beside(args.json):
        console.phase(IMPORTING)
        from ray_train.sweeps.run import planned, sweep

        result = sweep(config)
        found = result or planned(config) if args.json else None
    if found:
        options.print_json(found.numbers())
    return 0
