"""Tables and lists of docs/ name the columns, reasons, events, strategies and options that the code has."""

import re
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from support.markdown import PAGES, ROOT, Page, page_id
from support.scored_steps import scored

from bisieve import schemas
from bisieve.cli.report import PAGES as SUBJECTS
from bisieve.ranking.strategies import strategy_names
from bisieve.records import model
from bisieve.tools.diff import CHANGES, ENTERED, LEFT
from ray_train.evaluation.report import report
from ray_train.registry.lineage import STARTS

# Of ray_train.training.validation, which imports torch.
VALIDATION = ("validation_loss", "validation_f1", "validation_f1_low", "validation_f1_high")
EVALUATE = ROOT / "ray_train/evaluation/evaluate.py"

SOURCES = [
    path.read_text(encoding="utf-8")
    for folder in ("lib", "ray_train", "infra", "tests/bench")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
OF_OTHERS = {  # options of programs that are not ours, and `--help`
    "--auto", "--conf", "--configurations", "--disable-projection", "--file", "--force-recreate", "--help",
    "--name",
    "--namespace", "--py-files", "--requeue", "--runtime-env-json", "--shell", "--signal",
    "--trust-request-mm-kwargs",
    "--gpu-memory-utilization",
}  # fmt: skip
FLAG = re.compile(r'"--([a-z][a-z0-9-]+)')  # in a parser
FIELD = re.compile(r"^    (\w+): .*= option\(", re.MULTILINE)  # of a config: a flag of its name


def first_cells(doc: str, heading: str) -> list[list[str]]:
    """Return the names in code marks that the first table or list below a heading describes.

    They are in the first cell of each row, or before the colon of each item.
    """
    text = (ROOT / "docs" / doc).read_text(encoding="utf-8")
    below = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^- (.+?)(?: \(.+?\))?:\s", below, re.MULTILINE)
    rows = rows or re.findall(r"^\|(.+?)\|", below, re.MULTILINE)[2:]
    return [re.findall(r"`([^`]+)`", row) for row in rows]


def flat(cells: list[list[str]]) -> list[str]:
    return [name for cell in cells for name in cell]


def test_the_columns_of_the_index_are_those_of_its_schema() -> None:
    assert flat(first_cells("reference/index.md", "Rows")) == schemas.INDEX.names


def test_the_strategies_are_all_there() -> None:
    assert set(flat(first_cells("reference/strategies.md", "Strategies"))) == set(strategy_names())


def test_the_reasons_for_a_reject_are_all_there() -> None:
    source = Path(str(model.__file__)).read_text(encoding="utf-8")
    reasons = re.findall(r'^[A-Z_]+ = "([a-z_]+)"', source, re.MULTILINE)
    assert set(flat(first_cells("reference/records.md", "Reasons for a reject"))) == set(reasons)


def test_the_reasons_and_columns_of_a_comparison_are_all_there() -> None:
    assert flat(first_cells("reference/diff.md", "Why it left or entered")) == list(LEFT)
    text = (ROOT / "docs/reference/diff.md").read_text(encoding="utf-8")
    assert [name for name in ENTERED if f"`{name}`" not in text] == []
    assert flat(first_cells("reference/diff.md", "The rows")) == CHANGES.names


def test_the_events_of_the_log_are_all_there() -> None:
    emitted = {name for source in SOURCES for name in re.findall(r'\bemit\(\s*"(\w+)"', source)}
    assert set(flat(first_cells("reference/events.md", "Log lines"))) == emitted | {"progress"}


def test_the_metrics_of_a_step_are_all_there() -> None:
    code = "".join(
        (ROOT / "ray_train" / name).read_text() for name in ("training/loop.py", "estimates/throughput.py")
    )
    returned = "\n".join(re.findall(r"(?:return|metrics =) \{\n(.+?)\n +\}", code, re.DOTALL))
    computed = {*re.findall(r'^ +"(\w+)": ', returned, re.MULTILINE), "mfu", *VALIDATION}
    assert len(computed) > 9
    assert set(flat(first_cells("reference/metrics.md", "Of each step of a training"))) == computed


def test_the_metrics_of_an_evaluation_are_all_there() -> None:
    shown = flat(first_cells("reference/metrics.md", "Of an evaluation"))
    steps = scored(np.linspace(0, 1, 40).tolist(), (np.arange(40) % 3 > 0).tolist(), "s" * 40)
    assert report(steps, seed=0).keys() <= set(shown)
    written = re.findall(r'^        "(\w+)": ', EVALUATE.read_text(), re.MULTILINE)
    assert set(written) <= set(shown)


@pytest.mark.parametrize("doc", PAGES, ids=page_id)
def test_every_option_in_code_marks_is_one(doc: Path) -> None:
    code = "\n".join(re.findall(r"`([^`\n]+)`", Page(doc).prose))
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", code)) - OF_OTHERS
    names = {flag.removeprefix("--").removeprefix("no-").replace("-", "_") for flag in shown}
    known = {
        name.replace("-", "_") for source in SOURCES for name in FLAG.findall(source) + FIELD.findall(source)
    }
    # In loops over what a lineage can start from, and what a page can be about.
    made = {*STARTS, *(point.name for point in entry_points(group=SUBJECTS))}
    assert sorted(names - known - made) == []
