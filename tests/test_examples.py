"""The notebooks of examples/ run from their first cell to the last."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.forked_workers import ForkServer

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@pytest.mark.ray  # over 20 s: it trains a model, as a reader of the notebook does
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_as_it_stands(notebook: Path, tmp_path: Path, forks: ForkServer) -> None:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    environment = {
        **os.environ,
        **forks.environment,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "BACKBONE": str(ROOT / "tests/fixtures/backbone"),
    }
    ran = subprocess.run(
        forks.program("-c", code),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    assert "best 25%: " in ran.stdout
    assert "model: " in ran.stdout
    assert (tmp_path / "model/bisieve.json").exists()
    *_, last = ran.stdout.strip().splitlines()
    assert 0 <= float(last.split()[0]) <= 1


def test_notebooks_are_stored_without_output() -> None:
    assert NOTEBOOKS
    for notebook in NOTEBOOKS:
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            assert not cell.get("outputs"), notebook
            assert cell.get("execution_count") is None
