"""What is installed, and that a machine with one half of the dependencies does its half of the work."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WITHOUT = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"blocked: {{name}}", name=name)
sys.meta_path.insert(0, Blocked())
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


@pytest.mark.parametrize(
    ("blocked", "modules"),
    [
        (("torch", "ray", "transformers", "deepspeed"), ("bisieve.spark.job", "bisieve.corpus.corpus")),
        (
            ("pyspark",),
            ("ray_train.run.launch", "ray_train.run.loop", "ray_train.evaluation.evaluate", "bisieve.export"),
        ),
        (
            ("pyspark", "torch", "ray", "sklearn", "PIL", "s3fs"),
            ("bisieve.cli", "bisieve.commands.export", "bisieve.gate.refusal", "ray_train.promotion.promote"),
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
