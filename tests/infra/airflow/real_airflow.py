"""An Airflow in its own environment, with a database of its own."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
AIRFLOW = ROOT / ".venv-airflow" / "bin"  # make test makes it
DAGS = ROOT / "infra" / "airflow" / "dags"
STARTUP = ROOT / "tests" / "support" / "startup"
OURS = f"{STARTUP}:{ROOT / 'lib'}:{ROOT}"


@dataclass(frozen=True)
class Run:
    """What became of a DAG's run."""

    state: str
    tasks: dict[str, str]
    log: str


@dataclass(frozen=True)
class Airflow:
    """One with a database of its own."""

    home: Path
    environment: dict[str, str]

    def test(self, dag: str, params: dict[str, Any]) -> Run:
        """``dag.test()``: no scheduler, all else as it is."""
        path = self.home / "params.json"
        path.write_text(json.dumps(params))
        script = Path(__file__).with_name("run_dag.py")
        done = subprocess.run(
            [AIRFLOW / "python", script, dag, path],
            env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return Run(**json.loads(done.stdout.splitlines()[-1]), log=done.stdout + done.stderr)
