"""The DAGs, through ``dag.test()``: real Spark, real Ray, Airflow in its own environment."""

import json
from pathlib import Path
from typing import Any

from real_airflow import Airflow, Run
from support.nodes import Nodes


def test_the_pipeline_leads_from_shards_to_a_promoted_model(whole_run: Run, params: dict[str, Any]) -> None:
    assert whole_run.state == "success", whole_run.log[-5000:]
    assert set(whole_run.tasks) == {"score", "gate", "train", "evaluate", "promote"}
    models = Path(params["models"])
    current = json.loads((models / "current.json").read_text())["model"].removeprefix("file://")
    assert (Path(current) / "model.safetensors").exists()
    assert Path(current).parent == models


def test_what_a_job_prints_is_in_the_log_of_its_task_once(whole_run: Run) -> None:
    assert whole_run.log.count("step 4/4 ") == 1, whole_run.log[-5000:]
    assert "macro-F1, all steps pooled" in whole_run.log


def test_a_gate_that_refuses_says_the_numbers_and_ends_the_run_at_once(
    whole_run: Run, airflow: Airflow, head: Nodes, params: dict[str, Any]
) -> None:
    shard = next(Path(params["input"][0]).glob("grid_sum.jsonl"))
    before, jobs = shard.read_bytes(), head.get("/api/jobs/")
    shard.write_bytes(before + b"no record\n" * 60)
    try:
        run = airflow.test("bisieve_pipeline", {**params, "index": f"{params['index']}-bad"})
    finally:
        shard.write_bytes(before)
    assert run.state == "failed"
    assert run.tasks["gate"] == "failed"
    assert {run.tasks[name] for name in ("train", "evaluate", "promote")} == {"upstream_failed"}
    assert "50.00% (60 of 120) rejected" in run.log
    assert len(head.get("/api/jobs/")) == len(jobs)
