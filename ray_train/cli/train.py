"""``bisieve train``: train an MPRM on a fraction of a ranked index."""

import argparse

from bisieve import console
from bisieve.cli.overview import TRAIN
from ray_train.cli import IMPORTING
from ray_train.config import TrainConfig
from ray_train.config_io import add_options, read_config, to_toml

GROUP = TRAIN
HELP = "train a multimodal process reward model on the best rollouts of an index"
EXAMPLE = (
    "bisieve train --index index --fraction 10% --image-root corpus \\\n"
    "      --backbone OpenGVLab/InternVL3-1B-hf --output model"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_options(parser, TrainConfig)


def run(args: argparse.Namespace) -> int:
    """Train and return the exit code; report the run to OpenLineage if configured, but not a dry run."""
    config = read_config(TrainConfig, args)
    if args.print_config:
        print(to_toml(config, "bisieve train --config FILE"), end="")
        return 0
    console.phase(IMPORTING)
    from bisieve.io.urls import canonical
    from bisieve.tools.openlineage import lineage_events
    from ray_train.model.metadata import read_card
    from ray_train.training.driver import train
    from ray_train.training.plan import chosen_index

    if config.dry_run:
        train(config)
        return 0
    index, output = canonical(config.index), canonical(config.output)
    inputs = [index, config.backbone, *([canonical(config.exclude)] if config.exclude else [])]
    with lineage_events("train", inputs, [output]) as datasets:
        datasets.versions[index] = chosen_index(config).fingerprint
        train(config)
        card = read_card(output, "--output")
        datasets.versions |= {output: card["run"]} if card else {}
    return 0
