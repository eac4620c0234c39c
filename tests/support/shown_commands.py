"""The commands that a block of documentation shows, and whether our parsers accept them."""

import subprocess
from importlib.metadata import entry_points
from pathlib import Path

from bisieve.cli.main import COMMANDS
from bisieve.cli.parser import Parser
from ray_train.cli.submit import PROGRAMS
from ray_train.config_io import read_config

SCRIPTS = {
    "jobs/score_rollouts.py": "score",
    "ray_train/train_mprm.py": "train",
    "ray_train/evaluate_mprm.py": "evaluate",
    "ray_train/best_of_mprm.py": "best-of",
    "ray_train/sweep_mprm.py": "sweep",
}
# Programs that start ours are functions that note their words; no other program is found, and none is run by
# its path. So loops and variables are those of the shell, and nothing happens.
_NOTE = r"""
note() { printf '%s\0' "$@" $'\n' >&3; }
bisieve() { note bisieve "$@"; }
python() { [ "${1-} ${2-}" != "-m bisieve" ] || note "${@:2}"; }
spark-submit() { note spark-submit "$@"; }
ray() { note ray "$@"; }
command_not_found_handle() { :; }
exec 3>noted
PATH=/nowhere
shopt -s extdebug
trap '[[ ! $BASH_COMMAND =~ ^[^=[:space:]]*/ ]]' DEBUG
"""


def noted(text: str, folder: Path) -> list[list[str]]:
    """Return the words of each command of ours that bash would run, in order; nothing is run."""
    script = f"{_NOTE}\n{text}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env={"BACKBONE": "backbone", "HOME": str(folder)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "syntax error" not in done.stderr, done.stderr
    commands = (folder / "noted").read_text(encoding="utf-8").split("\0\n\0")[:-1]
    return [command.split("\0") for command in commands]


def check(words: list[str]) -> str:
    """Parse the command of ours in ``words``, with its config file if it names one; return its name.

    Raises:
        UsageError: It would be refused.
    """
    ours = [place for place, word in enumerate(words) if word == "bisieve" or word in SCRIPTS]
    if not ours:
        return ""
    name, *options = [SCRIPTS.get(words[ours[0]], ""), *words[ours[0] + 1 :]]
    if not name:
        name, *options = options or ["--help"]
    if name.startswith("-"):
        return ""
    (point,) = entry_points(group=COMMANDS, name=name)
    parser = Parser(prog=f"bisieve {name}")
    point.load().configure(parser)
    args = parser.parse_args(options)
    if name in PROGRAMS:
        read_config(PROGRAMS[name][0], args)
    if name == "submit":
        check(["bisieve", args.program, *args.options])
    return name
