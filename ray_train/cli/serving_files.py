"""``bisieve serving-files``: add the files for other programs to a model of an older bisieve."""

import argparse

from bisieve import console
from bisieve.cli.overview import TRAIN
from bisieve.cli.parser import add_config

GROUP = TRAIN
HELP = "write vllm.yaml, chat template and processor files beside a trained model"
EXAMPLE = "bisieve serving-files --model model"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--model", required=True, metavar="URL", help="folder that bisieve train wrote")
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Write the files and print their names; say so if vLLM cannot serve the model."""
    from ray_train.model.metadata import trained_card

    trained_card(args.model)  # before the slow import, so that a mistake is soon named
    console.phase("importing torch and transformers", on_stderr=True)
    from ray_train.model.serving_files import VLLM, add_serving_files

    written, why_not = add_serving_files(args.model)
    console.show(f"written to {args.model}: {', '.join(written)}")
    if why_not:
        console.show(f"no {VLLM}: {why_not}")
    elif VLLM not in written:
        console.show(f"{VLLM} has other options and stays: for a new one move it away, then run this again")
    return 0
