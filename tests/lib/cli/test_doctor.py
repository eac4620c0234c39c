"""``bisieve doctor``: lines or JSON, and an exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bisieve._text import WIDTH
from bisieve.cli.main import main

pytestmark = pytest.mark.spark  # its check of Java needs one


def test_a_machine_on_which_all_tests_run_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == {"ok"}
    assert [line for line in lines if len(line) > WIDTH] == []
    names = {line.split()[1] for line in lines}
    assert {"python", "bisieve", "bisieve[score]", "bisieve[train]", "disk", "java", "s3a", "gpu"} <= names


def test_what_failed_says_what_to_do_and_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing"
    assert main(["doctor", "--input", str(missing)]) == 1
    (line,) = (line for line in capsys.readouterr().out.splitlines() if not line.startswith("ok "))
    assert line == (
        f"failed   list                 expected a file or folder at {missing}; found nothing; check the URL"
    )


def test_json_has_the_same_checks_in_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "--output", str(tmp_path), "--input", str(tmp_path / "missing")]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["well"] is False
    failed = [check for check in report["checks"] if check["state"] == "failed"]
    assert [(check["name"], check["hint"]) for check in failed] == [("list", "check the URL")]
    assert {"write", "overwrite", "clock"} <= {check["name"] for check in report["checks"]}


@pytest.mark.parametrize("breaks", ["attempted", "loaded"])
def test_whatever_a_check_raises_is_a_line_that_failed_and_the_next_are_made(
    breaks: str, tmp_path: Path
) -> None:
    broken = (
        "raise OSError('libcudart.so.13: cannot open shared object file\\nsee https://me:planted@host/a')"
    )
    if breaks == "attempted":  # by the look at GPUs
        (tmp_path / "torch.py").write_text(broken)
    else:
        (tmp_path / "ray_train").mkdir()
        (tmp_path / "ray_train/__init__.py").write_text(broken)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [Path(sys.executable).with_name("bisieve"), "doctor", "--input", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    (failed,) = (line for line in done.stdout.splitlines() if line.startswith("failed"))
    assert failed.split()[1] == ("gpu" if breaks == "attempted" else "ray")
    assert "OSError: libcudart.so.13: cannot open shared object file; " in failed
    assert "read a range" in done.stdout
