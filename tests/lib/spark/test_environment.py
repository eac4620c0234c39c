"""Each variable that Spark takes from the environment is named with its fault, before a JVM starts."""

import os
import socket
import sys
from pathlib import Path

import pyspark
import pytest

from bisieve.errors import UsageError
from bisieve.spark import environment


@pytest.mark.parametrize(
    ("value", "found"),
    [("", "SPARK_HOME set to nothing"), ("/opt/nope", "SPARK_HOME='/opt/nope', which has none")],
)
def test_a_stale_or_empty_spark_home_is_named(
    value: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARK_HOME", value)
    with pytest.raises(UsageError, match=f"found {found}; unset SPARK_HOME"):
        environment.check_home()


def test_a_spark_home_of_another_version_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bin/spark-submit", "jars/spark-core_2.13-3.5.1.jar"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=f"Spark {pyspark.__version__} at SPARK_HOME.*found Spark 3.5.1"):
        environment.check_home()
    monkeypatch.setenv("SPARK_HOME", str(Path(pyspark.__file__).parent))
    environment.check_home()


def program(folder: Path, text: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("text", "found"),
    [(None, "no program there"), ("echo 3.9", "Python 3.9"), ("echo broken >&2; exit 3", "broken")],
)
def test_a_python_that_is_missing_old_or_broken_is_named(
    text: str | None, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = str(tmp_path / "none") if text is None else program(tmp_path, text)
    monkeypatch.setenv("PYSPARK_PYTHON", python)
    with pytest.raises(UsageError, match=f"at PYSPARK_PYTHON={python}; found {found}; unset it"):
        environment.check_python({})
    with pytest.raises(UsageError, match=f"at spark.pyspark.python={python}; found {found}"):
        environment.check_python({"spark.pyspark.python": python})
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    environment.check_python({})


@pytest.mark.parametrize("value", ["--conf a=b", "", "'open"])
def test_submit_args_that_cannot_work_are_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", value)
    with pytest.raises(UsageError, match="PYSPARK_SUBMIT_ARGS that end with pyspark-shell"):
        environment.check_submit_args()
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "--conf a=b pyspark-shell")
    environment.check_submit_args()


def test_a_user_without_a_name_is_named_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    environment.check_user()
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(UsageError, match="found UID 54321, which is not in /etc/passwd"):
        environment.check_user()


def test_a_master_that_nobody_is_at_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
        environment.check_master(f"spark://{place}")
    with pytest.raises(
        UsageError, match=f"master at spark://{place}; found {place}: .*refused; check --master"
    ):
        environment.check_master(f"spark://{place}")


def test_local_folders_of_which_none_can_be_written_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    environment.check_local_dirs({"spark.local.dir": f"{tmp_path}/file,{tmp_path}/new"})
    found = rf"at spark.local.dir={tmp_path}/file; found {tmp_path}/file: a file; correct it"
    with pytest.raises(UsageError, match=found):
        environment.check_local_dirs({"spark.local.dir": f"{tmp_path}/file"})
    monkeypatch.setenv("SPARK_LOCAL_DIRS", f"{tmp_path}/file")
    with pytest.raises(UsageError, match=f"at SPARK_LOCAL_DIRS={tmp_path}/file; found"):
        environment.check_local_dirs({"spark.local.dir": str(tmp_path)})


@pytest.mark.parametrize("form", ["{}", "file:{}", "file://{}"])
def test_a_folder_of_event_logs_that_is_not_there_is_named(form: str, tmp_path: Path) -> None:
    folder = form.format(tmp_path / "events")
    conf = {"spark.eventLog.enabled": "true", "spark.eventLog.dir": folder}
    with pytest.raises(UsageError, match=f"a folder at spark.eventLog.dir={folder}; found nothing; create"):
        environment.check_event_log(conf)
    environment.check_event_log({**conf, "spark.eventLog.enabled": "false"})
    environment.check_event_log({**conf, "spark.eventLog.dir": "hdfs://nn/events"})
    (tmp_path / "events").mkdir()
    environment.check_event_log(conf)


@pytest.mark.parametrize("master", ["local[x]", "local[0]", "local[2", "localhost"])
def test_a_misspelled_local_master_is_named(master: str) -> None:
    with pytest.raises(UsageError, match=r"expected --master local, local\[N\] or local\[\*\]; found local"):
        environment.check_master(master)


@pytest.mark.parametrize("master", ["local", "local[2]", "local[*]", "local[2,3]", "local[*, 3]"])
def test_every_form_of_a_local_master_passes(master: str) -> None:
    environment.check_master(master)
