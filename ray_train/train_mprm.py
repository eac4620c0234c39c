"""Entry point of ``ray job submit -- python ray_train/train_mprm.py …``: ``bisieve train``."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # In place of this folder, whose module names would hide other packages'.
    sys.path[:1] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "lib")]
    from bisieve.cli.main import run_command

    sys.exit(run_command("ray_train.cli.train"))
