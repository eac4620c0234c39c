"""In Airflow's environment: what the DAGs are, as a line of JSON.  Reading them may connect to nothing.

python describe_dags.py FOLDER
"""

import json
import socket
import sys
from importlib import import_module


def refused(*address: object) -> None:
    """In the place of ``connect``."""
    raise AssertionError(f"I/O while the DAGs are read: {address}")


socket.socket.connect = refused
sys.path.insert(0, sys.argv[1])

bisieve_pipeline = import_module("bisieve_pipeline")

print(
    json.dumps(
        {
            dag.dag_id: {
                "max_active_runs": dag.max_active_runs,
                "owners": sorted({task.owner for task in dag.tasks}),
                "retries": min(task.retries for task in dag.tasks),
                "outlets": sorted(asset.name for task in dag.tasks for asset in task.outlets),
                "schedule": dag.schedule
                if isinstance(dag.schedule, str)
                else [one.name for one in dag.schedule],
                "schemas": sum("type" in param.schema for _, param in dag.params.items()),
                "params": len(dag.params),
            }
            for dag in (bisieve_pipeline.pipeline, bisieve_pipeline.from_index)
        }
    )
)
