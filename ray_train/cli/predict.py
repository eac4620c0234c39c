"""``bisieve predict``: score the solutions of a file with an MPRM."""

import argparse
import json

from bisieve import console
from bisieve._text import pluralize
from bisieve.cli.overview import TRAIN
from bisieve.errors import UsageError
from ray_train.config_io import add_options, read_config, to_toml
from ray_train.evaluation.predict import PredictConfig

GROUP = TRAIN
HELP = "score the steps of solutions in a file with a process reward model"
EXAMPLE = "bisieve predict --model model --input solutions.jsonl --output scored.jsonl"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_options(parser, PredictConfig)
    parser.add_argument("--output", metavar="URL", help="JSONL file that gets the result (default: stdout)")


def run(args: argparse.Namespace) -> int:
    """Score and return the exit code; nothing is written unless all solutions are scored."""
    config = read_config(PredictConfig, args)
    if args.print_config:
        print(to_toml(config, "bisieve predict --config FILE"), end="")
        return 0
    from bisieve.io import storage
    from bisieve.io.urls import canonical
    from ray_train.evaluation.predict import predict

    if args.output:
        _check_output(args.output, config.input)
        storage.require_writable_file(canonical(args.output))
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in predict(config)]
    if args.output:
        storage.write_bytes(canonical(args.output), "".join(lines).encode())
        console.show(f"{args.output}: {pluralize(len(lines), 'solution')}")
    else:
        print(*lines, sep="", end="", flush=True)
    return 0


def _check_output(output: str, input: str) -> None:
    from bisieve.io.urls import check_names_lines, real_path

    if output == "-":
        raise UsageError("a file for --output", output, "leave it out to print the result")
    check_names_lines(output, "--output")
    if real_path(output) == real_path(input):
        raise UsageError("another file for --output than --input", output, "name a new one")
