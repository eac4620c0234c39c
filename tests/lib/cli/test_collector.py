"""Garbage is collected seldom where a process is a command's alone, and as before in any other."""

import gc
import subprocess
import sys

import pytest

from bisieve.cli.collector import collect_seldom
from bisieve.cli.main import main

SHOW = """
import gc, sys
from bisieve.cli.main import main
sys.argv[1:] = ["--version"]
main()
print(gc.get_threshold()[0] > 10_000, gc.isenabled())
"""


def test_a_command_in_a_process_of_its_own_collects_seldom() -> None:
    done = subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path = {sys.path}\n{SHOW}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.splitlines()[-1] == "True True"


def test_a_program_that_calls_a_command_keeps_its_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    before = gc.get_threshold()
    monkeypatch.setattr("bisieve.cli.main.collect_seldom", lambda: pytest.fail("it was set"))
    assert main(["--version"]) == 0
    assert gc.get_threshold() == before


def test_garbage_is_still_collected_and_nothing_is_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    at_exit: list[object] = []
    before = gc.get_threshold()
    monkeypatch.setattr("atexit.register", at_exit.append)
    try:
        collect_seldom()
        assert gc.isenabled()
        assert at_exit == [gc.freeze]
    finally:
        gc.set_threshold(*before)
