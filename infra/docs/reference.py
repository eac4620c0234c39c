"""Write the pages of docs/reference that follow from the code: cli.md and config.md (``make docs``)."""

import argparse
import dataclasses
import textwrap
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from bisieve.cli.main import COMMANDS
from bisieve.cli.overview import help_text
from bisieve.cli.parser import WIDTH, Parser, add_command
from ray_train.cli.submit import PROGRAMS
from ray_train.evaluation.config import BestOfConfig

DOCS = Path(__file__).parents[2] / "docs"
CONFIGS = {**{name: kind for name, (kind, _) in PROGRAMS.items()}, "best-of": BestOfConfig}
GENERATED = "<!-- made by `make docs` from the code: do not edit -->"


def pages() -> dict[str, str]:
    """Return the text of each generated page, by its path below docs."""
    return {"reference/cli.md": command_page(), "reference/config.md": config_page()}


def command_page() -> str:
    """Return the page of all commands with their options."""
    modules = {point.name: point.load() for point in entry_points(group=COMMANDS)}
    ordered = [line.split()[0] for line in help_text(modules).splitlines() if line[:2] == "  "]
    lines = [
        GENERATED,
        "# Commands and their options",
        "",
        "`bisieve COMMAND --help` shows the same. [How to give options](../how-to/configure.md), also from a",
        "file; [exit codes and output](exit-codes.md). A flag is switched off again as by `--no-quiet`.",
    ]
    for name in (name for name in ordered if name in modules):
        module = modules[name]
        lines += ["", f"## bisieve {name}", "", f"{_sentence(module.HELP)}", ""]
        lines += ["```text", *_wrapped(module.EXAMPLE), "```", ""]
        if name in CONFIGS:
            lines += [f"Its options are in [config.md](config.md#{name})."]
            continue
        parser = Parser(prog=f"bisieve {name}", add_help=False)
        add_command(parser, module)
        lines += [line for item in _options(parser) for line in _item(*item)]
    return "\n".join(lines) + "\n"


def config_page() -> str:
    """Return the page of the options of train and others, which are keys of a config file, too."""
    lines = [
        GENERATED,
        "# Options of train, evaluate, sweep and best-of",
        "",
        "Each key is an option of the command line, with `-` for `_`: `global_batch` is `--global-batch`.",
        "A key of type bool has two options, such as `--train-vision` and `--no-train-vision`. Keys may be",
        "in a TOML or YAML file for [`--config`](../how-to/configure.md#from-a-file). `--quiet` and",
        "`--json`, which all but `train` have, are options of the command line alone.",
    ]
    for name, kind in CONFIGS.items():
        is_training = name == "train"
        lines += ["", f"## {name}", ""]
        if is_training:
            lines += [
                "*Learned* is marked where another value makes another run. So do other rows of an index,",
                "another backbone, system turn or weights of rollouts. Everything else may differ when a run",
                "is [resumed](../explanation/determinism.md#what-makes-two-runs-the-same-run).",
            ]
        for item in dataclasses.fields(kind):
            if item.name in kind.GROUPS:
                lines += [""] * (lines[-1] != "") + [f"### {name}: {kind.GROUPS[item.name]}", ""]
            marks = [_values(item), _default(item)]
            marks += ["*learned*"] * (is_training and item.metadata["identity"])
            lines += _item(f"`{item.name}` ({'; '.join(filter(None, marks))})", item.metadata["help"])
    return "\n".join(lines) + "\n"


def _options(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Yield each option of a parser, and what it means."""
    formatter = parser._get_formatter()
    for action in parser._actions:
        names = next(iter(action.option_strings), "") or action.metavar or action.dest
        value = formatter._format_args(action, action.dest.upper()) if action.nargs != 0 else ""
        shown = f"{names} {value}".strip() if action.option_strings else value or str(names)
        needed = " (required)" if action.required and action.option_strings else ""
        yield f"`{shown}`{needed}", formatter._expand_help(action) if action.help else ""


def _values(item: "dataclasses.Field[Any]") -> str:
    if choices := item.metadata["choices"]:
        return ", ".join(f"`{choice}`" for choice in choices)
    return str(getattr(item.type, "__name__", item.type)).lower()


def _default(item: "dataclasses.Field[Any]") -> str:
    if item.default is dataclasses.MISSING:
        return "required"
    value = str(item.default).lower() if item.type is bool else str(item.default)
    return f"default `{value}`" if value else ""


def _item(name: str, meaning: str) -> list[str]:
    """Return an item of a list, on lines of at most `WIDTH` columns."""
    text = f"- {name}: {meaning}" if meaning else f"- {name}"
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _wrapped(command: str) -> list[str]:
    """Return a command on lines of at most 96 columns."""
    lines, line = [], ""
    for word in command.replace("\\\n", " ").split():
        if len(line) + len(word) > 94:
            lines.append(f"{line} \\")
            line = "   "
        line = f"{line} {word}" if line else word
    return [*lines, line]


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
        print(f"docs/{name}")


if __name__ == "__main__":
    main()
