"""What the DAGs are, as Airflow reads them."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from real_airflow import AIRFLOW, DAGS

pytestmark = pytest.mark.airflow  # Airflow's Python reads the DAGs


def test_the_dags_are_read_without_io_and_each_has_an_owner_retries_one_run_and_schemas(
    tmp_path: Path,
) -> None:
    script = Path(__file__).with_name("describe_dags.py")
    done = subprocess.run(
        [AIRFLOW / "python", script, DAGS], env={**os.environ, "AIRFLOW_HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    dags = json.loads(done.stdout.splitlines()[-1])
    assert dags["bisieve_pipeline"]["outlets"] == dags["bisieve_train"]["schedule"] == ["bisieve_index"]
    for dag in dags.values():
        assert (dag["owners"], dag["max_active_runs"]) == (["bisieve"], 1)
        assert dag["retries"] >= 2
        assert dag["schemas"] == dag["params"] > 0
