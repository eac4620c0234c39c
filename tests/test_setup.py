"""What is installed, and that a machine with one half of the dependencies does its half of the work."""

import os
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
WITHOUT = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"blocked: {{name}}", name=name)
sys.meta_path.insert(0, Blocked())
"""
HIDDEN = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.split(".")[0] in {hidden} else find(name, *rest)
"""


def test_a_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    packages = {"lib": "", "ray_train": "ray_train/"}
    expected = {
        prefix + str(path.relative_to(ROOT / name))
        for name, prefix in packages.items()
        for path in (ROOT / name).rglob("*")
        if path.is_file() and not any(part.endswith((".egg-info", "__pycache__")) for part in path.parts)
    }
    assert expected <= set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.slow  # it imports all that a machine has
@pytest.mark.parametrize(
    ("blocked", "modules"),
    [
        (("torch", "ray", "transformers", "deepspeed"), ("bisieve.spark.engine", "bisieve.synthetic.corpus")),
        (
            ("pyspark",),
            (
                "ray_train.training.driver",
                "ray_train.training.loop",
                "ray_train.evaluation.evaluate",
                "bisieve.tools.export",
            ),
        ),
        (
            ("pyspark", "pandas", "torch", "ray", "sklearn", "PIL", "s3fs"),
            (
                "bisieve.cli.main",
                "bisieve.cli.export",
                "bisieve.tools.gate_report",
                "bisieve.engines",
                "bisieve.pipeline.run",
                "bisieve.pipeline.rank",
                "ray_train.evaluation.compare",
                "ray_train.registry.promote",
            ),
        ),
    ],
    ids=["a Spark driver", "a GPU node", "neither"],
)
def test_what_a_machine_lacks_it_does_not_need(blocked: tuple[str, ...], modules: tuple[str, ...]) -> None:
    imports = "".join(f"import {module}\n" for module in modules)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(blocked=blocked) + imports],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow  # it imports torch and transformers
def test_the_benchmark_of_a_step_needs_torch_and_transformers_alone() -> None:
    needed = _installed_with("torch") | _installed_with("transformers")
    # Hidden and not blocked: transformers asks for each package that it can use whether it is there.
    owners = metadata.packages_distributions().items()
    others = {name for name, packages in owners if needed.isdisjoint(map(canonicalize_name, packages))}
    modules = "import bench.training.run, bench.training.step\n"
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN.format(hidden=others - {"bisieve", "ray_train"}) + modules],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'lib'}:{ROOT}"},
    )
    assert done.returncode == 0, done.stderr


def _installed_with(package: str) -> set[str]:
    """``package``, what it requires, and what that requires."""
    try:
        wanted = [Requirement(line) for line in metadata.requires(package) or ()]
    except metadata.PackageNotFoundError:
        return set()
    names = {one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})}
    return {canonicalize_name(package)}.union(*map(_installed_with, names))
