"""Which pytest process runs which tests: what shares an engine stays together, the longest begin."""

from typing import Any

import pytest

# What shares the Ray of `ray_cluster`, and the run `trained` on it.
_ON_ONE_RAY = tuple(
    f"tests/ray_train/{name}.py"
    for name in (
        "training/test_elastic", "training/test_exactness", "training/test_training",
        "training/test_validation", "distributed/test_preemption", "evaluation/test_evaluate",
        "registry/test_lineage", "tracking/test_base", "tracking/test_prometheus",
        "estimates/test_throughput", "test_submit", "test_device", "test_ray_checkup", "test_run_config",
        "model/test_lora",
    )
)  # fmt: skip
# What uses `ray_cluster` but not `trained`: all on one would take longer than what the others do meanwhile.
_ON_ANOTHER_RAY = tuple(
    f"tests/ray_train/{name}.py"
    for name in (
        "training/test_hub_models", "sweeps/test_sweep", "sweeps/test_trial", "training/test_beta_binomial",
    )
)  # fmt: skip
# What shares the Spark of `spark`, and the drivers and the cluster of `tests/faults`.
_ON_ONE_SPARK = (
    "tests/faults/", "tests/jobs/test_spark_settings.py", "tests/lib/index/test_rerank.py",
    "tests/lib/index/test_selection.py", "tests/lib/local/test_engine.py",
    "tests/lib/pipeline/test_select_on.py", "tests/lib/shards/test_layout.py",
    "tests/lib/spark/test_progress.py", "tests/lib/test_engines.py",
)  # fmt: skip
_AIRFLOW = ("tests/infra/airflow/",)
# What else has programs, workers or ranks forked: the server takes 6 seconds of a core to import.
_FORKED = (
    "tests/ray_train/compat/test_zero.py", "tests/ray_train/training/test_loop_errors.py",
    "tests/ray_train/distributed/test_collectives.py", "tests/test_secrets.py", "tests/test_examples.py",
    "tests/infra/test_iam.py", "tests/ray_train/test_forked_workers.py",
)  # fmt: skip
_TOGETHER = {
    "airflow": _AIRFLOW, "ray": _ON_ONE_RAY, "ray 2": _ON_ANOTHER_RAY, "forked": _FORKED,
    "spark": _ON_ONE_SPARK,
}  # fmt: skip
_LONGEST = (
    *_AIRFLOW,
    *_ON_ONE_RAY,
    *_ON_ANOTHER_RAY,
    *_FORKED,
    "tests/ray_train/compat/",
    *_ON_ONE_SPARK,
    "tests/test_",
)
# Marks of tests, by the fixtures that make them slow.
_STARTED_BY = {
    "spark": {"spark", "start_driver"},
    "ray": {"ray_cluster", "nodes", "head"},
    "airflow": {"airflow"},
    "s3": {"s3"},
    "browser": {"browser"},
    "hub": {"hub_checkpoint"},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they start, and put the longest first: else one process ends with them alone."""
    for item in items:
        params = getattr(getattr(item, "callspec", None), "params", {})
        for mark, names in _STARTED_BY.items():
            if names.intersection(getattr(item, "fixturenames", ())) or mark in params.values():
                item.add_marker(mark)
        on_ray = (*_ON_ONE_RAY, *_ON_ANOTHER_RAY)
        for name, files in (("ray_cluster", on_ray), ("spark", _ON_ONE_SPARK)):
            if name in getattr(item, "fixturenames", ()) and not item.nodeid.startswith(files):
                raise pytest.UsageError(f"{item.nodeid} would start another `{name}`; name its file here")
    items.sort(
        key=lambda item: next((i for i, path in enumerate(_LONGEST) if item.nodeid.startswith(path)), 99)
    )


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let a free process take the next file; what shares an engine stays together."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.split("::")[0]
            return next((name for name, files in _TOGETHER.items() if path.startswith(files)), path)

    config.option.loadscopereorder = False
    return ByFile(config, log)
