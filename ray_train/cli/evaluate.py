"""``bisieve evaluate``: measure how well an MPRM tells right steps from wrong ones."""

import argparse

from ray_train.config_io import add_options, read_config
from ray_train.evaluation.config import EvaluateConfig

HELP = "evaluate a process reward model on a benchmark of judged steps"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_options(parser, EvaluateConfig)


def run(args: argparse.Namespace) -> int:
    """Evaluate and return the exit code; report the evaluation to OpenLineage if configured."""
    config = read_config(EvaluateConfig, args)
    from bisieve.io.urls import canonical
    from bisieve.tools.openlineage import lineage_events
    from ray_train.evaluation.evaluate import evaluate

    benchmark, output = canonical(config.benchmark), canonical(config.output)
    with lineage_events("evaluate", [config.model, benchmark], [output]) as datasets:
        report = evaluate(config)
        datasets.versions |= {config.model: report["run"]} if report["run"] else {}
    return 0
