"""A running `bisieve explore`, as a process of its own."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exploring(index: str, *words: str, log: Path) -> Iterator[str]:
    """The URL of its page; fails if the process ends otherwise than by Ctrl-C."""
    command = [sys.executable, "-m", "bisieve", "explore", "--index", index, *words]
    with (
        open(log, "w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        assert line.startswith("page: http://127.0.0.1:"), log.read_text()
        try:
            yield line.split()[1]
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(60)
    assert code == 130
    assert re.fullmatch(
        "bisieve: interrupted; the page is closed(; the marked ids are in .*)?\n", log.read_text()
    )
