"""Run ``bisieve score`` on a cluster: ``spark-submit jobs/score_rollouts.py --input … --index …``."""

import sys

from bisieve.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("bisieve.cli.score", ["--engine", "spark", *sys.argv[1:]]))
