"""The tables of docs/ name the columns, reasons, events, strategies and options that the code has."""

import re
from pathlib import Path

import pytest

from bisieve import schemas
from bisieve.records import model
from bisieve.records.options import STRATEGIES
from bisieve.tools.diff import CHANGES, ENTERED, LEFT
from ray_train.registry.lineage import STARTS

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
SOURCES = [
    path.read_text(encoding="utf-8")
    for folder in ("lib", "ray_train", "infra", "tests/bench")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
OF_OTHERS = {  # options of programs that are not ours, and `--help`
    "--auto", "--conf", "--configurations", "--file", "--force-recreate", "--help", "--name",
    "--namespace", "--py-files", "--requeue", "--runtime-env-json", "--signal",
}  # fmt: skip
FLAG = re.compile(r'"--([a-z][a-z0-9-]+)')  # in a parser
FIELD = re.compile(r"^    (\w+): .*= option\(", re.MULTILINE)  # of a config: a flag of its name


def first_cells(doc: str, heading: str) -> list[list[str]]:
    """Return the names in code marks in the first cell of each row of the first table below a heading."""
    text = (ROOT / "docs" / doc).read_text(encoding="utf-8")
    below = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\|(.+?)\|", below, re.MULTILINE)[2:]
    return [re.findall(r"`([^`]+)`", row) for row in rows]


def flat(cells: list[list[str]]) -> list[str]:
    return [name for cell in cells for name in cell]


def test_the_columns_of_the_index_are_those_of_its_schema() -> None:
    assert flat(first_cells("index.md", "Rows")) == schemas.INDEX.names


def test_the_strategies_are_all_there() -> None:
    assert set(flat(first_cells("index.md", "Strategies"))) == set(STRATEGIES)


def test_the_reasons_for_a_reject_are_all_there() -> None:
    source = Path(str(model.__file__)).read_text(encoding="utf-8")
    reasons = re.findall(r'^[A-Z_]+ = "([a-z_]+)"', source, re.MULTILINE)
    assert set(flat(first_cells("index.md", "Reasons for a reject"))) == set(reasons)


def test_the_reasons_and_columns_of_a_comparison_are_all_there() -> None:
    assert flat(first_cells("diff.md", "Why it left or entered")) == list(LEFT)
    text = (ROOT / "docs/diff.md").read_text(encoding="utf-8")
    assert [name for name in ENTERED if f"`{name}`" not in text] == []
    assert flat(first_cells("diff.md", "The rows")) == CHANGES.names


def test_the_events_of_the_log_are_all_there() -> None:
    emitted = {name for source in SOURCES for name in re.findall(r'\bemit\(\s*"(\w+)"', source)}
    assert set(flat(first_cells("operations.md", "Log lines"))) == emitted | {"progress"}


@pytest.mark.parametrize("doc", [*DOCS, ROOT / "README.md"], ids=lambda doc: doc.name)
def test_every_option_in_code_marks_is_one(doc: Path) -> None:
    text = re.sub(r"```.*?```", "", doc.read_text(encoding="utf-8"), flags=re.DOTALL)
    code = "\n".join(re.findall(r"`([^`\n]+)`", text))
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", code)) - OF_OTHERS
    names = {flag.removeprefix("--").removeprefix("no-").replace("-", "_") for flag in shown}
    known = {
        name.replace("-", "_") for source in SOURCES for name in FLAG.findall(source) + FIELD.findall(source)
    }
    made = set(STARTS)  # in a loop over what a lineage can start from
    assert sorted(names - known - made) == []
