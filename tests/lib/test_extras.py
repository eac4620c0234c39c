"""A missing package names the one extra that brings it."""

import ast
import re
import sys
from pathlib import Path

import pytest

from bisieve.extras import EXTRAS, distribution_with

ROOT = Path(__file__).parents[2]
NEEDED = {"numpy", "pyarrow", "fsspec", "msgspec", "xxhash", "packaging", "bisieve", "ray_train"}


@pytest.mark.parametrize(
    ("module", "distribution"),
    [
        ("torch.cuda", "bisieve[train]"), ("pyspark", "bisieve[score]"), ("mlflow", "bisieve[mlflow]"),
        ("s3fs", "bisieve[s3]"), ("sklearn", "bisieve[corpus]"), ("msgspec", "bisieve"),
    ],
)  # fmt: skip
def test_a_module_is_brought_by_one_extra(module: str, distribution: str) -> None:
    assert distribution_with(module) == distribution


def test_every_import_of_the_source_is_needed_always_or_has_its_extra() -> None:
    imported = set()
    for file in [*ROOT.glob("lib/**/*.py"), *ROOT.glob("ray_train/**/*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    assert imported - NEEDED - set(sys.stdlib_module_names) <= set(EXTRAS)


def test_every_extra_that_is_named_is_one_of_setup() -> None:
    setup = (ROOT / "setup.py").read_text()
    for extra in set(EXTRAS.values()):
        assert re.search(rf'"{extra}"', setup), extra
