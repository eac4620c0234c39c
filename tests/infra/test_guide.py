"""``docs/deployment.md`` speaks of what is there."""

import argparse
import re
import shlex
from pathlib import Path

from ray_train.commands import submit, train

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/deployment.md").read_text()


def test_the_files_that_the_guide_names_are_there() -> None:
    named = {name.rstrip(".") for name in re.findall(r"(?:infra|jobs)/[\w./]+", GUIDE)}
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_command_that_the_guide_shows_is_one() -> None:
    (command,) = re.findall(r"^bisieve submit .+?(?<!\\)$", GUIDE, re.MULTILINE | re.DOTALL)
    _, _, *words = shlex.split(command.replace("\\\n", " "))
    parser = argparse.ArgumentParser(exit_on_error=False)
    submit.configure(parser)
    args = parser.parse_args(words)
    assert args.program == "train"
    parser = argparse.ArgumentParser(exit_on_error=False)
    train.configure(parser)
    options = parser.parse_args(args.options)
    assert (options.workers.least, options.device) == (8, "gpu")
