"""From shards to a promoted model, and from each new version of an index to one.

bisieve_pipeline   score ─▶ gate ─▶ train ─▶ evaluate ─▶ promote      on a schedule of its own
                     └─ the asset bisieve_index ─┐
bisieve_train               gate ─▶ train ─▶ evaluate ─▶ promote      whenever an index has been scored

What a run works on is in its parameters; those of a scheduled run are the ones below.
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
INDEX = Asset("bisieve_index")  # there is a new version of it when `score` has run
COMMON: dict[str, Any] = {
    "max_active_runs": 1,  # runs of one index and one pointer: each builds on the last
    "catchup": False,
    "default_args": {"owner": "bisieve", "retries": 2, "retry_delay": timedelta(minutes=1)},
    "tags": ["bisieve"],
}


def of_params(make: Any) -> Any:
    """What Airflow calls for a task's arguments: ``make`` of the run's parameters."""
    return lambda context, jinja_env: make(context["params"])


def of_version(make: Any) -> Any:
    """The same, of the parameters and the version of the index that passed the gate."""
    return lambda context, jinja_env: make(context["params"], context["ti"].xcom_pull(task_ids="gate"))


def training() -> list[Any]:
    """The tasks from an index to a promoted model, one after another."""
    gate = BisieveOperator(task_id="gate", arguments=of_params(arguments.gate))
    # A retry finds its job, or goes on from its last checkpoint: it costs little, and need not wait.
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
