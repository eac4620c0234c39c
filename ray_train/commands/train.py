"""``bisieve train``: an MPRM from a fraction of a ranked index."""

import argparse

from ray_train.config import TrainConfig
from ray_train.options import add_options, read_config

HELP = "train a multimodal process reward model on the best rollouts of an index"


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    add_options(parser, TrainConfig)


def run(args: argparse.Namespace) -> int:
    """Trains; returns the exit code."""
    config = read_config(TrainConfig, args)
    from bisieve.index import open_index
    from bisieve.lineage_events import lineage_events
    from ray_train.model.card import read_card
    from ray_train.run.launch import train

    if config.dry_run:
        train(config)
        return 0
    with lineage_events("train", [config.index, config.backbone], [config.output]) as datasets:
        datasets.versions[config.index] = open_index(config.index).fingerprint
        train(config)
        card = read_card(config.output, "--output")
        datasets.versions |= {config.output: card["run"]} if card else {}
    return 0
