"""Entry point of ``ray job submit -- python ray_train/best_of_mprm.py …``: ``bisieve best-of``."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # Replace this folder on the path: its module names would hide other packages.
    sys.path[:1] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "lib")]
    from bisieve.cli.main import run_command

    sys.exit(run_command("ray_train.cli.best_of"))
