"""The workers that tests fork are as different from each other as those that Ray starts."""

import os
import subprocess
import sys
from pathlib import Path

from support import forked_workers

TWO_FORKS = """
import os, sys
from support.forked_workers import IMPORTED, keep_random_ids_apart
keep_random_ids_apart()
for name in IMPORTED:
    __import__(name)
for _ in range(2):
    if os.fork() == 0:
        from ray._raylet import WorkerID
        print(WorkerID.from_random().hex(), flush=True)
        os._exit(0)
    os.wait()
"""


def test_forks_make_random_ids_of_their_own() -> None:
    tests = Path(forked_workers.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", TWO_FORKS],
        cwd=tests,
        env={**os.environ, "PYTHONPATH": f"{tests}:{tests.parent}"},
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = done.stdout.split()[-2:]
    assert first != second
