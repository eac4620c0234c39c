"""A missing package names the one extra that brings it."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from support.handmade import Made, make_index

from bisieve.cli.extras import EXTRAS, distribution_with
from bisieve.io.errors import DRIVERS

ROOT = Path(__file__).parents[3]
NEEDED = {
    "numpy",
    "pyarrow",
    "fsspec",
    "msgspec",
    "xxhash",
    "packaging",
    "yaml",
    "rich",
    "argcomplete",
    "jinja2",
    "markupsafe",  # of jinja2
    "bisieve",
    "ray_train",
}
# No extra brings the first two: their errors say what to do. TensorBoard brings the last.
OF_OTHERS = {"torchvision", "sqlalchemy", "google"}
# Those of infra have a place of their own: Airflow's requirements, the demo's own modules, those of tests.
OUTSIDE = {
    "_typeshed",  # of type checkers
    "airflow",
    "bisieve_airflow",
    "requests",
    "urllib3",
    "websockets",
    "backbone_lessons",
    "backbone_model",
    "support",
}

# Commands where no extra is installed: other tests show that the packages are needed.
_BARE = """
import contextlib, io, json, sys
from importlib.machinery import PathFinder

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in absent else super().find_spec(name, path, target)

absent, commands = map(json.loads, sys.argv[1:])
sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
from bisieve.cli.main import main
for name, words in commands.items():
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(words)
    print(json.dumps([name, code, said.getvalue()]))
"""


@pytest.mark.parametrize(
    ("module", "distribution"),
    [
        ("torch.cuda", "bisieve[train]"), ("pyspark", "bisieve[score]"), ("mlflow", "bisieve[mlflow]"),
        ("s3fs", "bisieve[s3]"), ("sklearn", "bisieve[corpus]"), ("msgspec", "bisieve"),
    ],
)  # fmt: skip
def test_a_module_is_brought_by_one_extra(module: str, distribution: str) -> None:
    assert distribution_with(module) == distribution


@pytest.mark.parametrize("module", ["pandas", "sklearn.metrics", "PIL", "huggingface_hub", "torch"])
def test_what_training_needs_comes_with_all_of_its_extra(module: str) -> None:
    assert distribution_with(module, training=True) == "bisieve[train]"
    assert distribution_with("s3fs", training=True) == "bisieve[s3]"


def test_without_any_extra_each_command_names_the_one_that_it_needs(
    write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    shard, output = str(write_jsonl("a.jsonl", [rollout()])), str(tmp_path / "output")
    (tmp_path / "config.json").write_text('{"model_type": "internvl"}')
    model, images = str(tmp_path), ["--image-root", str(tmp_path), "--output", output]
    index = make_index(tmp_path, [Made("a", "a-0", (0.5,))]).url
    train = ["train", "--index", index, *images, "--backbone"]
    evaluate = ["evaluate", "--benchmark", shard, *images, "--model", model]
    extras = {
        "score": (["score", "--input", shard, "--index", output, "--engine", "spark"], "score"),
        "train": ([*train, model], "train"),
        "train of a hub id": ([*train, "someone/model"], "train"),
        "dry run": ([*train, model, "--dry-run"], "train"),
        "evaluate": (evaluate, "train"),
        "submit": (["submit", *train, model], "train"),
        "submit of a hub id": (["submit", *train, "someone/model"], "train"),
        "submit of an evaluation": (["submit", *evaluate], "train"),
        "explore": (["explore", "--index", index], "explore"),
        "serve": (["serve", "--model", model], "serve"),
        "corpus": (["corpus", "--output", output, "--rollouts", "8", "--images", "8"], "corpus"),
    } | {
        scheme: (["export", "--index", f"{scheme}://b/x", "--fraction", "1", "--output", output], extra)
        for scheme, extra in DRIVERS.items()
    }
    commands = {name: words for name, (words, _) in extras.items()}
    words = [sys.executable, "-c", _BARE, json.dumps([*EXTRAS]), json.dumps(commands)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [name for name, *_ in answers] == [*extras]
    for name, code, said in answers:
        (line,) = said.splitlines()
        assert code == 1, name
        assert re.findall(r"pip install '(.*?)'", line) == [f"bisieve[{extras[name][1]}]"], (name, line)


def test_every_import_of_the_source_is_needed_always_or_has_its_extra() -> None:
    imported = set()
    for file in chain(*(ROOT.glob(f"{folder}/**/*.py") for folder in ("lib", "ray_train", "jobs", "infra"))):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("import_module", "find_spec"):
                imported |= {word.value.split(".")[0] for word in node.args if isinstance(word, ast.Constant)}
    assert {"torch", "mlflow", "sqlalchemy"} <= imported, "whatever way they are imported in"
    assert imported - NEEDED - OF_OTHERS - OUTSIDE - set(sys.stdlib_module_names) <= set(EXTRAS)


def test_every_extra_that_is_named_is_one_of_setup() -> None:
    setup = (ROOT / "setup.py").read_text()
    for extra in set(EXTRAS.values()):
        assert re.search(rf'"{extra}"', setup), extra
