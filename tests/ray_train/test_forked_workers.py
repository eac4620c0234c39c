"""Programs and workers that tests fork behave like ones that are started as users start them."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from support.forked_workers import ForkServer
from support.stall import wait_for

pytestmark = pytest.mark.slow  # the server imports for 6 seconds

ROOT = Path(__file__).parents[2]
RANDOM_ID = "from ray._raylet import WorkerID; print(WorkerID.from_random().hex())"
WAIT = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
time.sleep(600)
"""


def run(
    forks: ForkServer, *words: str, folder: Path = ROOT, **environment: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        forks.program(*words), env=os.environ | forks.environment | environment, capture_output=True,
        text=True, check=False, cwd=folder,
    )  # fmt: skip


def test_forks_make_random_ids_of_their_own(forks: ForkServer) -> None:
    first, second = (run(forks, "-c", RANDOM_ID).stdout.split()[-1] for _ in range(2))
    assert first != second


@pytest.mark.parametrize(
    ("code", "exit_code", "said"),
    [
        ("print(sys.argv[1:])", 0, "['a', 'b']\n"),
        ("print('so far'); sys.exit(7)", 7, "so far\n"),
        ("sys.exit('why')", 1, "why\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("os.kill(os.getpid(), 9)", -9, ""),
    ],
)
@pytest.mark.parametrize("is_forked", [True, False])
def test_a_program_is_given_and_gives_what_a_process_of_its_own_would_be(
    forks: ForkServer, is_forked: bool, code: str, exit_code: int, said: str
) -> None:
    # Only what was imported with the same settings is of use.
    others = {} if is_forked else {"HF_HOME": "/elsewhere"}
    check = f"assert ('torch' in sys.modules) is {is_forked}"
    done = run(forks, "-c", f"import os, sys; {check}; {code}", "a", "b", **others)
    assert (done.returncode, (done.stdout + done.stderr).endswith(said)) == (exit_code, True), done.stderr


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 1), (signal.SIGKILL, -9)]
)
def test_a_program_gets_the_signals_of_what_it_was_started_as(
    forks: ForkServer, number: int, code: int, tmp_path: Path
) -> None:
    file = tmp_path / "process"
    program = subprocess.Popen(
        forks.program("-c", WAIT, str(file)), env=os.environ | forks.environment, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: file.exists() and file.read_text() != "")
    program.send_signal(number)
    assert program.wait() == code
    wait_for(lambda: not psutil.pid_exists(int(file.read_text())))


@pytest.mark.parametrize("is_same", [True, False])
def test_a_job_is_forked_where_the_code_that_it_took_along_is_this_code(
    forks: ForkServer, is_same: bool, tmp_path: Path
) -> None:
    for name in ("lib/bisieve", "ray_train"):
        shutil.copytree(ROOT / name, tmp_path / name)
    if not is_same:
        (tmp_path / "lib/bisieve/errors.py").write_text("# other code\n")
    code = "import sys; print('torch' in sys.modules)"
    path = os.pathsep.join([str(tmp_path), "lib:.", os.environ["PYTHONPATH"]])  # as Ray sets it
    done = run(forks, "-c", code, folder=tmp_path, PYTHONPATH=path)
    assert done.stdout == f"{is_same}\n", done.stderr
