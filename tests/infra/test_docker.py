"""``infra/docker`` and ``infra/ray``, as far as they can be held to anything without a Docker engine."""

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from compose_spec import PyCompose

import bisieve
from bisieve.doctor.machine import TESTED_PYTHONS

pytestmark = [pytest.mark.spark, pytest.mark.slow]  # spark-submit and Airflow as their images start them

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra/docker"
DOCKERFILES = sorted(FOLDER.glob("*.Dockerfile"))
BIN = Path(sys.executable).parent


def instructions(file: Path, name: str) -> list[str]:
    """What follows each ``name`` in a Dockerfile, continued lines as one."""
    text = file.read_text().replace("\\\n", " ")
    return re.findall(rf"^{name}\s+(.+)$", text, re.MULTILINE)


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_a_dockerfile_has_a_pinned_base_no_root_and_a_health_command(file: Path) -> None:
    linted = subprocess.run([BIN / "hadolint", file], capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout
    for base in instructions(file, "FROM"):
        assert re.match(r"(python:\d+\.\d+\.\d+-slim-\w+|bisieve-score:[\d.]+)( AS \w+)?$", base)
        if python := re.match(r"python:(\d+)\.(\d+)", base):
            assert tuple(map(int, python.groups())) in TESTED_PYTHONS
    assert instructions(file, "USER")[-1] == "10001"
    (health,) = instructions(file, "HEALTHCHECK")
    assert "CMD" in health


@pytest.mark.parametrize("name", ["score", "train"])
def test_what_an_image_copies_is_there_and_is_sent_to_the_engine(name: str) -> None:
    sent = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines()]
    copies = instructions(FOLDER / f"{name}.Dockerfile", "COPY")
    sources = [
        word for copy in copies if "--from" not in copy for word in copy.split()[:-1] if word[0] != "-"
    ]
    assert {"lib", "ray_train", "constraints.txt"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists()
        assert source.split("/")[0] in sent


def compose(text: str) -> PyCompose:
    """What Compose makes of it; merges (``<<``) are left to YAML."""
    return PyCompose.from_json(json.dumps(yaml.safe_load(text)))


def test_compose_takes_its_file_and_builds_what_it_runs() -> None:
    text = (FOLDER / "compose.yaml").read_text()
    services = yaml.safe_load(text)["services"]
    assert sorted(compose(text).service_names()) == sorted(services)
    with pytest.raises(ValueError, match="prots"):
        compose(text.replace("ports:", "prots:", 1))
    built = {one["image"]: one["build"] for one in services.values() if "build" in one}
    assert set(built) == {f"bisieve-{name}:{bisieve.__version__}" for name in ("score", "train", "airflow")}
    for build in built.values():
        assert (FOLDER / build["context"]).resolve() == ROOT
        assert (ROOT / build["dockerfile"]).is_file()
    for service in services.values():
        assert service["image"] in built or re.search(r":[\d.]+$", service["image"])
        assert set(service.get("depends_on", {})) <= set(services)
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_an_executors_pod_gets_as_far_as_the_driver_that_it_was_told_of() -> None:
    of_kubernetes = {
        "SPARK_JAVA_OPT_0": "-Dbisieve.said=two words", "SPARK_JAVA_OPT_1": "-XX:+PrintCommandLineFlags",
        "SPARK_EXECUTOR_MEMORY": "256m", "SPARK_EXECUTOR_ID": "1", "SPARK_EXECUTOR_CORES": "1",
        "SPARK_DRIVER_URL": "spark://CoarseGrainedScheduler@127.0.0.1:1", "SPARK_APPLICATION_ID": "app",
        "SPARK_EXECUTOR_POD_IP": "127.0.0.1", "SPARK_EXECUTOR_POD_NAME": "pod",
        "SPARK_RESOURCE_PROFILE_ID": "0", "PATH": f"{BIN}:{os.environ['PATH']}",
    }  # fmt: skip
    done = subprocess.run(
        [FOLDER / "spark.sh", "executor"], env={**os.environ, **of_kubernetes},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "-XX:MaxHeapSize=268435456" in done.stdout
    assert "Failed to connect to /127.0.0.1:1" in done.stderr
    assert "Usage" not in done.stderr


def test_in_airflows_image_a_task_finds_a_spark_that_starts() -> None:
    (environment,) = instructions(FOLDER / "airflow.Dockerfile", "ENV")
    path = environment.split()[0].removeprefix("PATH=")
    here = {"/opt/venv": BIN.parent, "/opt/airflow/venv": ROOT / ".venv-airflow", "$PATH": os.environ["PATH"]}
    for there, place in here.items():
        path = path.replace(there, str(place))
    for command in (["spark-submit", "--version"], ["airflow", "version"]):
        done = subprocess.run(
            [FOLDER / "spark.sh", *command], env={**os.environ, "PATH": path},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_what_is_pinned_is_to_be_had_by_everybody() -> None:
    for name in ("constraints.txt", "infra/airflow/constraints.txt"):
        pins = (ROOT / name).read_text()
        assert "+" not in pins, "a build such as +cpu lies in no public index, and on a GPU is the wrong one"


def test_ray_up_takes_its_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    text = (ROOT / "infra/examples/ray-aws.yaml").read_text()
    prepared = prepare_config(yaml.safe_load(text))
    validate_config(prepared)
    assert prepared["docker"]["image"].endswith(f"/bisieve-train:{bisieve.__version__}")
    with pytest.raises(Exception, match="max_wrokers"):
        validate_config(prepare_config(yaml.safe_load(text.replace("max_workers: 4", "max_wrokers: 4", 1))))


class SecretStore(BaseHTTPRequestHandler):
    """What Secrets Manager answers, for the one secret that it has."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        is_known = asked == {"SecretId": "bisieve/ray-token"}
        self.send_response(200 if is_known else 400)
        self.end_headers()
        answer = {"SecretString": "t0ken"} if is_known else {"__type": "ResourceNotFoundException"}
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_a_machine_of_aws_starts_ray_with_the_token_of_the_secret_store_or_not_at_all(
    kind: str, tmp_path: Path
) -> None:
    text = (ROOT / "infra/examples/ray-aws.yaml").read_text()
    config = yaml.safe_load(text)
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    command = config[f"{kind}_start_ray_commands"][-1].replace("REGION", "eu-west-1")
    (tmp_path / "ray").write_text('#!/bin/sh\necho "$RAY_AUTH_TOKEN: $*"\n')
    (tmp_path / "ray").chmod(0o755)
    with HTTPServer(("127.0.0.1", 0), SecretStore) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {
            **os.environ, "PATH": f"{tmp_path}:{BIN}:{os.environ['PATH']}", "RAY_HEAD_IP": "10.0.0.1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
            "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        }  # fmt: skip
        said = [
            subprocess.run(
                ["bash", "-c", words], env=environment, capture_output=True, text=True, check=False
            )
            for words in (command, command.replace("ray-token", "another"))
        ]
        server.shutdown()
    where = "--head --port=6379" if kind == "head" else "--address=10.0.0.1:6379"
    assert said[0].stdout.startswith(f"t0ken: start {where}"), said[0].stderr
    assert "t0ken" not in command
    assert said[1].returncode != 0
    assert said[1].stdout == "", "no Ray without its token"


def test_in_compose_spark_and_ray_have_their_secrets_from_the_environment_alone() -> None:
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    secrets = {"ray": "RAY_AUTH_TOKEN", "spark": "_SPARK_AUTH_SECRET"}
    for name, service in services.items():
        if variable := secrets.get(name.split("-")[0]):
            given = service["environment"]
            assert given[variable].startswith(f"${{{variable}:?"), "no default"
            assert not re.search(r"token|secret", " ".join(service["command"]), re.IGNORECASE)
            assert given.get("RAY_AUTH_MODE", "token") == "token"
            if variable == "_SPARK_AUTH_SECRET":
                assert given["SPARK_DAEMON_JAVA_OPTS"].split() == [
                    "-Dspark.authenticate=true", "-Dspark.master.rest.enabled=false",
                ]  # fmt: skip
    airflow = services["airflow"]["environment"]
    assert airflow["_SPARK_AUTH_SECRET"] == services["spark-master"]["environment"]["_SPARK_AUTH_SECRET"]
    assert "${RAY_AUTH_TOKEN}" in airflow["AIRFLOW_CONN_RAY_DEFAULT"]
