"""Two DAGs: from shards to a promoted model, and from each new version of an index to a promoted model.

bisieve_pipeline   score ─▶ gate ─▶ train ─▶ evaluate ─▶ promote      weekly
                     └─ the asset bisieve_index ─┐
bisieve_train               gate ─▶ train ─▶ evaluate ─▶ promote      each time an index has been scored

The parameters of a run say what it works on; scheduled runs use the defaults below.
"""

from datetime import timedelta
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import DAG, Asset, chain
from bisieve_airflow import CHECKOUT, arguments
from bisieve_airflow.bisieve_operator import BisieveOperator
from bisieve_airflow.params import params
from bisieve_airflow.ray_job_operator import RayJobOperator

SCORING = {"input": ["s3://corpus/annotations"], "score_options": {}}
TRAINING = {
    "index": "s3://corpus/index",
    "image_root": "s3://corpus",
    "backbone": "OpenGVLab/InternVL3-8B-hf",
    "benchmark": "s3://corpus/benchmark.jsonl",
    "models": "s3://models",
    "fraction": 0.25,
    "workers": 8,
    "max_reject_rate": 0.01,
    "max_mixture_drift": 0.05,
    "max_score_drift": 0.10,
    "max_lost": 0.20,
    "metric": "overall_f1",
    "train_options": {"device": "gpu"},  # waits for the GPUs that an autoscaler brings
    "evaluate_options": {"device": "gpu"},
}
INDEX = Asset("bisieve_index")  # updated when `score` has run
COMMON: dict[str, Any] = {
    "max_active_runs": 1,  # all runs share one index and one pointer, and each builds on the last
    "catchup": False,
    "default_args": {"owner": "bisieve", "retries": 2, "retry_delay": timedelta(minutes=1)},
    "tags": ["bisieve"],
}


def of_params(make: Any) -> Any:
    """Return a callable that Airflow resolves to a task's arguments: ``make(parameters of the run)``."""
    return lambda context, jinja_env: make(context["params"])


def of_version(make: Any) -> Any:
    """Return the same for ``make(parameters, index version that passed the gate)``."""
    return lambda context, jinja_env: make(context["params"], context["ti"].xcom_pull(task_ids="gate"))


def training() -> list[Any]:
    """Return the tasks from an index to a promoted model, in order."""
    gate = BisieveOperator(task_id="gate", arguments=of_params(arguments.gate))
    # A retry is cheap: it finds the running job, or resumes from the last checkpoint. So it need not wait.
    again: dict[str, Any] = {"retries": 5, "retry_delay": timedelta(seconds=10)}
    train = RayJobOperator(task_id="train", arguments=of_version(arguments.train), **again)
    evaluate = RayJobOperator(task_id="evaluate", arguments=of_version(arguments.evaluate), **again)
    promote = BisieveOperator(task_id="promote", arguments=of_version(arguments.promote))
    return [gate, train, evaluate, promote]


with DAG("bisieve_pipeline", schedule="@weekly", params=params(**SCORING, **TRAINING), **COMMON) as pipeline:
    score = SparkSubmitOperator(
        task_id="score",
        application=str(CHECKOUT / "jobs" / "score_rollouts.py"),
        application_args=of_params(arguments.score),
        name="bisieve score",
        outlets=[INDEX],
    )
    chain(score, *training())

with DAG("bisieve_train", schedule=[INDEX], params=params(**TRAINING), **COMMON) as from_index:
    chain(*training())
