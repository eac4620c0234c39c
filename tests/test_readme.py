"""The README is true: its training runs as it stands, and its table is that of the versions tested.

The rest of its code is tested with that of docs/: `tests/docs/test_doc_commands.py`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.markdown import ROOT, Page
from support.piped_lines import too_wide

from bisieve._version import __version__
from bisieve.doctor.machine import TESTED_PYTHONS
from bisieve.index.manifest import FORMAT_VERSION

README = Page(ROOT / "README.md")
# All that the example may write to stderr: what bash shows of it, and how far `corpus` and `score` are.
SAID = re.compile(
    r"\+ .*|making \d+ rollouts|\d+ of \d+ shards to scan|[a-z]+: \d+ of \d+ tasks.*"
    r"|scanned \d+ rollouts .*"
)


@pytest.mark.ray  # which its training and its evaluation start
def test_the_example_runs_as_it_stands(tmp_path: Path) -> None:
    (example,) = [block.text for block in README.blocks if block.note == "runs as a test"]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "BACKBONE": str(ROOT / "tests/fixtures/backbone"),
    }
    done = subprocess.run(
        ["bash", "-euxc", example], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert [line for line in done.stderr.splitlines() if not SAID.fullmatch(line)] == []
    assert too_wide(done.stdout) == []
    for made in ("index/manifest.json", "best.jsonl", "model/bisieve.json", "metrics/metrics.json"):
        assert (tmp_path / made).stat().st_size > 0


def test_the_python_example_gives_the_number_in_its_comment() -> None:
    (example,) = [block.text for block in README.blocks if "import balanced" in block.text]
    names: dict[str, object] = {}
    *lines, call = example.strip().splitlines()
    exec("\n".join(lines), names)
    shown, number = call.split("#")
    assert eval(shown, names) == pytest.approx(float(number))


def test_the_table_of_what_goes_together_is_what_was_tested() -> None:
    head, _, *rows = re.findall(
        r"^\| (.+) \|$|^\|---.+$", README.text.split("## What goes together")[1], re.MULTILINE
    )
    (shown,) = (dict(zip(head.split(" | "), row.split(" | "), strict=True)) for row in rows)
    files = (ROOT / name for name in ("constraints.txt", "infra/airflow/requirements.txt"))
    pins = "\n".join(file.read_text() for file in files)
    pinned = dict(re.findall(r"^([\w-]+)==([\w.]+)", pins, re.MULTILINE))
    packages = {"Spark": "pyspark", "Ray": "ray", "torch": "torch", "transformers": "transformers"}
    assert shown == {
        "bisieve": __version__.rsplit(".", 1)[0],
        "reads index format": str(FORMAT_VERSION),
        "Python": ", ".join(f"{major}.{minor}" for major, minor in TESTED_PYTHONS),
        **{name: pinned[package] for name, package in packages.items()},
        "DeepSpeed": pinned["deepspeed"],
        "Airflow": pinned["apache-airflow"],
    }
