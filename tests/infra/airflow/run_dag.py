"""In Airflow's environment: a DAG's ``dag.test()``, what became of it as a line of JSON at the end.

python run_dag.py DAG_ID PARAMS.json
"""

import json
import sys
from pathlib import Path

from airflow.configuration import conf

sys.path.insert(0, conf.get("core", "dags_folder"))

import bisieve_pipeline

dags = {dag.dag_id: dag for dag in vars(bisieve_pipeline).values() if isinstance(dag, bisieve_pipeline.DAG)}
run = dags[sys.argv[1]].test(run_conf=json.loads(Path(sys.argv[2]).read_text()))
tasks = {task.task_id: task.state for task in run.get_task_instances()}
print(json.dumps({"state": run.state, "tasks": tasks}))
