"""``bisieve serve``: a process reward model behind HTTP, on Ray Serve."""

import argparse

from bisieve import console
from bisieve.cli.overview import TRAIN
from ray_train.cli import IMPORTING
from ray_train.config_io import add_options, read_config, to_toml
from ray_train.serving.config import ServeConfig

GROUP = TRAIN
HELP = "serve a process reward model over HTTP, without vLLM"
EXAMPLE = "bisieve serve --model model --port 8000"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_options(parser, ServeConfig)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    config = read_config(ServeConfig, args)
    if args.print_config:
        print(to_toml(config, "bisieve serve --config FILE"), end="")
        return 0
    console.phase(IMPORTING)
    from ray_train.serving.server import serve

    serve(config)
    return 0
