"""Where the benchmark of the data path finds the tokenizer of the trainer's tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "ray_train"))
