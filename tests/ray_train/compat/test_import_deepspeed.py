"""What importing DeepSpeed brings along, in a process of its own."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow  # importing DeepSpeed takes ten seconds


def test_deepspeed_comes_without_mlflow_which_can_be_imported_afterwards() -> None:
    code = (
        "import sys; from ray_train.compat.deepspeed import import_deepspeed; import_deepspeed(); "
        "assert 'mlflow' not in sys.modules; import mlflow.version"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_deepspeed_leaves_an_imported_mlflow_where_it_is() -> None:
    code = (
        "import sys, mlflow; "
        "from ray_train.compat.deepspeed import import_deepspeed; import_deepspeed(); "
        "assert sys.modules['mlflow'] is mlflow"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
