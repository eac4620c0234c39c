"""The commands that the README shows."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(<!-- runs as a test -->\n)?```(\w+)\n(.*?)```", README, flags=re.DOTALL)
MODULES = {
    "jobs/score_rollouts.py": "bisieve.cli.score",
    "ray_train/train_mprm.py": "ray_train.cli.train",
    "ray_train/evaluate_mprm.py": "ray_train.cli.evaluate",
}


def submitted() -> list[list[str]]:
    """The words of every shown command that runs one of our entry points."""
    lines = [
        line
        for _, language, text in BLOCKS
        if language == "bash"
        for line in text.replace("\\\n", " ").splitlines()
    ]
    return [words for line in lines if MODULES.keys() & set(words := shlex.split(line, comments=True))]
