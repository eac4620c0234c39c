"""The token of a real two-node Ray, right, wrong and none: as Airflow and as the doctor give it."""

import os
import subprocess
from pathlib import Path

import pytest
from real_airflow import AIRFLOW, DAGS, OURS
from support.nodes import BIN, Nodes

WRONG = "0" * 48
# In Airflow's environment, as `RayJobOperator` asks; the token comes by the environment, as a secret should.
ASK = """
import os, sys
from bisieve_airflow.ray_jobs import RayJobs, TokenError
jobs = RayJobs(sys.argv[1], os.environ.get("GIVEN"))
print(jobs)
try:
    print("jobs", len(jobs.all()) >= 0)
except TokenError as error:
    print("refused:", error)
"""


@pytest.mark.parametrize("token", ["right", "none", "wrong"])
def test_a_connection_has_the_token_or_is_refused_in_one_line(head: Nodes, token: str) -> None:
    given = {"right": {"GIVEN": head.token}, "wrong": {"GIVEN": WRONG}, "none": {}}[token]
    done = subprocess.run(
        [AIRFLOW / "python", "-c", ASK, head.address], env={**os.environ, "PYTHONPATH": str(DAGS), **given},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown, *said = done.stdout.splitlines()
    assert not any(secret in shown for secret in given.values()), "a repr ends up in logs"
    refused = (
        f"refused: expected the token that the Ray at {head.address}/api/jobs/ asks for; found "
        f"{'none' if token == 'none' else 'another one'}; set it as the connection's password, or as "
        "RAY_AUTH_TOKEN"
    )
    assert said == ["jobs True" if token == "right" else refused]


@pytest.mark.parametrize("token", ["right", "none", "wrong"])
def test_the_doctor_sees_a_ray_with_its_token_alone(head: Nodes, token: str, tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    given = {
        "right": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": head.token},
        "wrong": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": WRONG},
        "none": {},
    }
    # HOME has no token of this machine's user.
    environment = {
        **kept, "PYTHONPATH": OURS, "HOME": str(tmp_path), "RAY_ADDRESS": head.gcs, **given[token],
    }  # fmt: skip
    done = subprocess.run(
        [BIN / "bisieve", "doctor"], env=environment, capture_output=True, text=True, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line[9:].startswith("ray")]
    if token == "right":
        assert [line[:28].split() for line in lines] == [["ok", "ray"], ["ok", "ray", "token"]], done.stdout
        assert "2 nodes" in lines[0]
    else:
        (line,) = lines
        found = "none" if token == "none" else "none, or another one"
        assert line.startswith("failed   ray "), done.stdout
        assert f"expected the token that the Ray at {head.gcs} asks for; found {found}; set" in line
        assert "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN" in line
    assert "Traceback" not in done.stdout + done.stderr
    assert head.token not in done.stdout + done.stderr
