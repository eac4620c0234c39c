"""What ``bisieve`` and ``bisieve --help`` print: the pipeline, and the commands by what they are for."""

from collections.abc import Mapping
from types import ModuleType

from bisieve._text import aligned_left
from bisieve._version import __version__

SELECT, TRAIN, CHECK = "select rollouts", "train a model", "check the installation"
_ORDER = (  # of a user's way through the commands
    "corpus", "score", "report", "explore", "show", "rank", "diff", "path", "export", "gate",
    "versions", "clean",
    "train", "evaluate", "compare", "best-of", "predict", "serve", "sweep", "promote", "serving-files",
    "push", "lineage", "submit",
)  # fmt: skip
_PIPELINE = f"""\
bisieve {__version__}: find the rollouts worth training on, and train a process reward model on them

  shards ──score──▶ index ──export──▶ a training file
                      │
                      └──train──▶ model ──evaluate──▶ metrics ──promote──▶ the current model
"""
_START = """\
Start with your own file:   bisieve score --input ROLLOUTS.jsonl --index index
or with a made-up corpus:   bisieve corpus --output corpus
All commands:               bisieve --help
"""
_EXIT_CODES = """\
exit codes:
  0    done, or nothing to do
  1    an error that stderr explains; a failed gate, check of doctor or link of lineage
  2    a wrong command, option or value
  130  stopped by Ctrl-C
  143  stopped by SIGTERM
"""


def overview() -> str:
    """Return what ``bisieve`` without a command prints."""
    return f"{_PIPELINE}\n{_START}"


def help_text(commands: Mapping[str, ModuleType]) -> str:
    """Return what ``bisieve --help`` prints: the commands with their ``HELP``, by their ``GROUP``.

    Args:
        commands: Command modules by name; a module without ``GROUP`` is listed last, as are in a group those
            that are not in `_ORDER`.
    """
    names = sorted(commands, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))
    sections = []
    groups = {name: getattr(module, "GROUP", "other commands") for name, module in commands.items()}
    for group in sorted(set(groups.values()), key=(SELECT, TRAIN, CHECK, "other commands").index):
        rows = [(f"  {name}", commands[name].HELP) for name in names if groups[name] == group]
        sections.append("\n".join([f"{group}:", *aligned_left(rows)]))
    usage = "usage: bisieve COMMAND [OPTION ...]    bisieve COMMAND --help shows the options of a command"
    return "\n".join([_PIPELINE, usage, *(f"\n{section}" for section in [*sections, _EXIT_CODES])])
