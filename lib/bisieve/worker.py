"""What a worker process does: tasks in, outcomes out, until there are no more."""

import gc
import os
import pickle
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from multiprocessing import connection, parent_process
from typing import Any

from bisieve.errors import BisieveError


def work(tasks: Any, scratch: str, environment: Mapping[str, str]) -> None:
    """Do tasks until there are no more.

    Args:
        tasks: Where they come from, and where their outcomes go.
        scratch: The run's temporary folder.
        environment: That of the run, which may have changed since the server was started.
    """
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one ends us
    signal.signal(signal.SIGTERM, _on_sigterm)
    import pyarrow as pa

    pa.set_cpu_count(1)
    gc.freeze()  # what is imported stays
    gc.disable()  # a task makes millions of objects and hardly a cycle: garbage is looked for between tasks
    threading.Thread(target=_end_with_parent, args=(scratch,), daemon=True).start()
    while True:
        try:
            task = tasks.recv_bytes()
        except EOFError:
            return
        tasks.send_bytes(_outcome(task))
        gc.collect()


def _outcome(task: bytes) -> bytes:
    try:
        return pickle.dumps((False, pickle.loads(task)()), protocol=5)
    except Exception as error:
        if not isinstance(error, BisieveError):
            error.add_note(f"in a worker process:\n{traceback.format_exc()}")
        try:
            data = pickle.dumps((True, error), protocol=5)
            pickle.loads(data)
        except Exception:
            data = pickle.dumps((True, RuntimeError(repr(error))), protocol=5)
        return data


def _on_sigterm(number: int, frame: object) -> None:
    sys.exit(128 + number)  # unlike the signal's default it lets files be closed and removed


def _end_with_parent(scratch: str) -> None:
    """A process that is killed can neither end its workers nor remove its files."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(1)
