"""Entry point for ``ray job submit -- python ray_train/evaluate_mprm.py …``; the same as ``bisieve evaluate``."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "lib")]
    from bisieve.cli import run_command

    sys.exit(run_command("ray_train.commands.evaluate"))
