"""``bisieve evaluate``: how well an MPRM tells right steps from wrong ones."""

import argparse

from ray_train.config import EvaluateConfig, add_options, read_config

HELP = "evaluate a process reward model on a benchmark of judged steps"


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    add_options(parser, EvaluateConfig)


def run(args: argparse.Namespace) -> int:
    """Evaluates; returns the exit code."""
    config = read_config(EvaluateConfig, args)
    from ray_train.evaluation.evaluate import evaluate

    evaluate(config)
    return 0
