"""``bisieve train``: an MPRM from a fraction of a ranked index."""

import argparse

from ray_train.config import TrainConfig, add_options, read_config

HELP = "train a multimodal process reward model on the best rollouts of an index"


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    add_options(parser, TrainConfig)


def run(args: argparse.Namespace) -> int:
    """Trains; returns the exit code."""
    config = read_config(TrainConfig, args)
    from ray_train.run.launch import train

    train(config)
    return 0
