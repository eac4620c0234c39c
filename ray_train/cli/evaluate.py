"""``bisieve evaluate``: measure how well an MPRM tells right steps from wrong ones."""

import argparse

from bisieve import console
from bisieve.cli import options
from bisieve.cli.overview import TRAIN
from ray_train.cli import IMPORTING
from ray_train.config_io import add_options, read_config, to_toml
from ray_train.evaluation.config import EvaluateConfig

GROUP = TRAIN
HELP = "evaluate a process reward model on a benchmark of judged steps"
EXAMPLE = "bisieve evaluate --model model --benchmark benchmark.jsonl --image-root images --output metrics"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_options(parser, EvaluateConfig)
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate and return the exit code; report the evaluation to OpenLineage if configured.

    With ``--json`` stdout gets the content of ``metrics.json`` alone, and all text goes to stderr.
    """
    config = read_config(EvaluateConfig, args)
    if args.print_config:
        print(to_toml(config, "bisieve evaluate --config FILE"), end="")
        return 0
    with options.text_beside(args.json):
        console.phase(IMPORTING)
    from bisieve.io.urls import canonical
    from bisieve.tools.openlineage import lineage_events
    from ray_train.evaluation.evaluate import evaluate

    benchmark, output = canonical(config.benchmark), canonical(config.output)
    with (
        lineage_events("evaluate", [config.model, benchmark], [output]) as datasets,
        options.text_beside(args.json),
    ):
        report = evaluate(config)
        datasets.versions |= {config.model: report["run"]} if report["run"] else {}
    if args.json:
        options.print_json(report)
    return 0
