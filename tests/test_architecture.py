"""ARCHITECTURE.md and CONTRIBUTING.md name only files, modules and functions that exist.

Source files are parsed, never imported, so that neither Spark nor torch is needed.
"""

import ast
import re
import tomllib
from functools import cache
from itertools import zip_longest
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GUIDES = ("ARCHITECTURE.md", "CONTRIBUTING.md")
PACKAGES = {"bisieve": ROOT / "lib/bisieve", "ray_train": ROOT / "ray_train"}
BASES = (ROOT, *PACKAGES.values())  # the pictures show paths below a package
ENTRY_POINTS = set(re.findall(r'"(bisieve\.\w+)": \[', (ROOT / "setup.py").read_text(encoding="utf-8")))
OF_A_RUN = {"bisieve.json"}  # a file beside a trained model
ABSENT = (".venv", ".demo", ".git")  # from a clean checkout, or from a container
PLACEHOLDERS = {"NAME", "NUMBER", "OUTPUT"}  # for what a user or a contributor chooses
OF_OTHERS = {"Any", "PYTHONDONTWRITEBYTECODE"}  # names of Python and its library

DOTTED = re.compile(r"(?<![\w./])(?:bisieve|ray_train)(?:\.\w+)+")
# A path has a folder, or the suffix of a file that is in the repository.
PATH = re.compile(r"(?<![\w./:-])\.?(?:\w[\w.-]*(?:/[\w.-]+)+|[\w-]+\.(?:py|md|toml|txt|yaml)\b)")
LINK = re.compile(r"\]\(([^)#]+)(?:#([^)]+))?\)")
CODE = re.compile(r"`([^`\n]+)`")
DEFINED = re.compile(r"^ *(?:def |class )?(\w+)(?:\(|:| =)", re.MULTILINE)
# A class, a constant, or a function or field of several words.
NAME = re.compile(r"[A-Z][a-z]\w+|_?[A-Z]+(?:_[A-Z]+)*|[a-z]+(?:_[a-z]+)+")


def test_names_of_test_files_are_unique() -> None:
    """Else pytest cannot collect both."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def text_of(guide: str) -> str:
    return (ROOT / guide).read_text(encoding="utf-8")


def targets(node: ast.stmt) -> list[str]:
    """Return the names that a statement of a module or class defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.AnnAssign):
        return [node.target.id] if isinstance(node.target, ast.Name) else []
    if isinstance(node, ast.Assign):
        return [one.id for target in node.targets for one in ast.walk(target) if isinstance(one, ast.Name)]
    return []


@cache
def names_in(file: Path) -> set[str]:
    """Return what a source file defines, attributes of classes as ``Class.name``."""
    names = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        names.update(targets(node))
        if isinstance(node, ast.ClassDef):
            names.update(f"{node.name}.{name}" for inner in node.body for name in targets(inner))
    return names


@cache
def all_names() -> set[str]:
    """Return every name that a source or test file defines, whatever defines it: parsing all takes 4 s."""
    files = [file for folder in ("lib", "ray_train", "tests") for file in (ROOT / folder).rglob("*.py")]
    return {name for file in files for name in DEFINED.findall(file.read_text(encoding="utf-8"))}


def exists(dotted: str) -> bool:
    """Return whether ``dotted`` is a package, a module, or what a module defines."""
    package, *rest = dotted.split(".")
    place = PACKAGES[package]
    for number, name in enumerate(rest):
        if (place / name).is_dir():
            place /= name
            continue
        file = place / f"{name}.py"
        inside = ".".join(rest[number + 1 :]) if file.exists() else ".".join(rest[number:])
        file = file if file.exists() else place / "__init__.py"
        return file.exists() and (not inside or inside in names_in(file))
    return True


@pytest.mark.parametrize("guide", GUIDES)
def test_every_dotted_name_exists(guide: str) -> None:
    found = set(DOTTED.findall(text_of(guide))) - ENTRY_POINTS - set(OF_A_RUN)
    assert found or guide == "CONTRIBUTING.md"
    assert sorted(name for name in found if not exists(name)) == []


@pytest.mark.parametrize("guide", GUIDES)
def test_every_path_exists(guide: str) -> None:
    without_links = LINK.sub("", text_of(guide))
    paths = {path.rstrip(".") for path in PATH.findall(without_links)}
    found = {
        path
        for path in paths
        if not path.startswith(ABSENT) and not PLACEHOLDERS & set(re.split(r"[/.]", path))
    }
    assert len(found) > 20
    assert sorted(path for path in found if not any((base / path).exists() for base in BASES)) == []


@pytest.mark.parametrize("guide", GUIDES)
def test_every_link_leads_to_a_file_and_a_heading(guide: str) -> None:
    for path, anchor in LINK.findall(text_of(guide)):
        file = ROOT / path
        assert file.exists(), path
        headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in slugs, f"{path}#{anchor}"


@pytest.mark.parametrize("guide", GUIDES)
def test_every_name_in_code_marks_is_defined_somewhere(guide: str) -> None:
    found = {word for word in CODE.findall(text_of(guide)) if NAME.fullmatch(word)}
    assert sorted(found - all_names() - PACKAGES.keys() - PLACEHOLDERS - OF_OTHERS) == []


def test_the_import_rules_are_those_of_pyproject() -> None:
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    contracts = {rule["containers"][0]: rule for rule in rules["contracts"] if rule["type"] == "layers"}
    layers = [
        [layer.replace(" | ", ", ") for layer in contracts[name]["layers"]]
        for name in ("bisieve", "ray_train")
    ]
    block = text_of("ARCHITECTURE.md").split("```text\nlib/bisieve ")[1].split("```")[0]
    shown = [tuple(re.split(r"  +", line.strip())) for line in block.splitlines()[1:]]
    assert shown == [tuple(filter(None, both)) for both in zip_longest(*layers)]


@pytest.mark.parametrize("guide", GUIDES)
def test_lines_fit_into_100_columns(guide: str) -> None:
    assert [line for line in text_of(guide).splitlines() if len(line) > 100] == []
