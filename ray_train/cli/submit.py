"""``bisieve submit train …``, ``evaluate``, ``best-of``, ``sweep``: run a command as a job of a cluster."""

import argparse
from importlib import import_module
from pathlib import Path

from bisieve.cli.overview import TRAIN
from bisieve.cli.parser import Parser, add_command
from ray_train.config import TrainConfig
from ray_train.config_io import read_config, to_toml
from ray_train.evaluation.config import BestOfConfig, EvaluateConfig, ScoringConfig
from ray_train.sweeps.config import SweepConfig

GROUP = TRAIN
HELP = "run train, evaluate, best-of or sweep on a Ray cluster, or follow its job"
EXAMPLE = "bisieve submit --address http://HEAD:8265 train --config train.toml --output s3://models/mprm"
PROGRAMS: dict[str, tuple[type[TrainConfig | ScoringConfig | SweepConfig], str]] = {
    "train": (TrainConfig, "ray_train/train_mprm.py"),
    "evaluate": (EvaluateConfig, "ray_train/evaluate_mprm.py"),
    "best-of": (BestOfConfig, "ray_train/best_of_mprm.py"),
    "sweep": (SweepConfig, "ray_train/sweep_mprm.py"),
}
CHECKOUT = Path(__file__).parents[2]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--address",
        metavar="URL",
        help="address of the cluster's dashboard; the variable RAY_ADDRESS overrides it",
    )
    parser.add_argument(
        "--runtime-env", metavar="FILE", help="YAML file with Ray's runtime environment of the job"
    )
    parser.add_argument("program", choices=PROGRAMS, help=f"the command to run there: {', '.join(PROGRAMS)}")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="its own options, as on one machine")


def run(args: argparse.Namespace) -> int:
    """Submit the command as a job, or follow its active job; return the job's exit code.

    The options and the model are checked here before anything is submitted.
    """
    kind, script = PROGRAMS[args.program]
    parser = Parser(prog=f"bisieve submit {args.program}")
    add_command(parser, import_module(f"ray_train.cli.{args.program.replace('-', '_')}"))
    given = parser.parse_args(args.options)
    config = read_config(kind, given)
    if given.print_config:
        print(to_toml(config, f"bisieve {args.program} --config FILE"), end="")
        return 0
    from ray_train.model.metadata import check_visible_model

    if isinstance(config, ScoringConfig):
        check_visible_model(config.model, "--model")
    else:
        check_visible_model(config.backbone, "--backbone")
    from ray_train.jobs import run_job

    # From a checkout, its code is uploaded. An installed bisieve must be installed on the cluster, too.
    is_checkout = (CHECKOUT / ".rayignore").exists()
    words = ["python", script] if is_checkout else ["bisieve", args.program]
    code = CHECKOUT if is_checkout else None
    return run_job(args.program, config.output, [*words, *args.options], code, args.address, args.runtime_env)
