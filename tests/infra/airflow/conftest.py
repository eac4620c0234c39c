"""A real Airflow in its own environment, a Ray that takes jobs and a corpus small enough to train on."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.forked_workers import fork_server
from support.nodes import BIN, Nodes, started_nodes

sys.path.insert(0, str(Path(__file__).parent))  # for the modules beside this one

from real_airflow import AIRFLOW, DAGS, OURS, ROOT, Airflow, Run


@pytest.fixture(scope="package")
def head(
    free_ports: Callable[..., dict[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nodes]:
    """A Ray that takes jobs."""
    folder, ours = tmp_path_factory.mktemp("forks"), {"PYTHONPATH": OURS}
    with fork_server(folder, os.environ | ours) as forks, started_nodes(free_ports, forks, **ours) as nodes:
        yield nodes


@pytest.fixture(scope="package")
def airflow(head: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    home = tmp_path_factory.mktemp("airflow")
    spark = {"conn_type": "spark", "host": "local[2]", "extra": {"deploy-mode": "client"}}
    ray = {
        "conn_type": "http",
        "host": "127.0.0.1",
        "port": urlsplit(head.address).port,
        "password": head.token,
    }
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONPATH": OURS,
        "PYSPARK_PYTHON": str(BIN / "python"),
        "PYSPARK_DRIVER_PYTHON": str(BIN / "python"),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps(spark),
        "AIRFLOW_CONN_RAY_DEFAULT": json.dumps(ray),
    }
    subprocess.run([AIRFLOW / "airflow", "db", "migrate"], env=environment, capture_output=True, check=True)
    return Airflow(home, environment)


@pytest.fixture(scope="package")
def params(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The parameters of a run over 60 rollouts."""
    folder = tmp_path_factory.mktemp("lake")
    corpus = folder / "corpus"
    made = ["corpus", "--output", str(corpus), "--rollouts", "60", "--benchmark", "8"]
    subprocess.run(
        [BIN / "bisieve", *made], check=True, capture_output=True, env={**os.environ, "PYTHONPATH": OURS}
    )
    return {
        "input": [str(corpus / "annotations")],
        "index": str(folder / "index"),
        "image_root": str(corpus),
        "backbone": str(ROOT / "tests" / "fixtures" / "backbone"),
        "benchmark": str(corpus / "benchmark.jsonl"),
        "models": str(folder / "models"),
        "fraction": 0.5,
        "workers": 1,
        "train_options": {
            "zero_stage": 1, "global_batch": 8, "pack_tokens": 2048, "max_length": 512, "max_tiles": 1,
            "device": "cpu", "data_workers": 0,
        },
        "evaluate_options": {"workers": 1, "device": "cpu"},
    }  # fmt: skip


@pytest.fixture(scope="package")
def whole_run(airflow: Airflow, params: dict[str, Any]) -> Run:
    """A run of the whole pipeline."""
    return airflow.test("bisieve_pipeline", params)
