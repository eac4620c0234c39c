"""Fork Ray's workers from a process that has already imported torch, transformers and DeepSpeed.

A training on two workers takes 35 seconds of a core, most of which import these in four processes. Everything
else stays as it is: real raylets, real workers in processes of their own, which can be killed.

A raylet runs this script in place of Ray's own `setup_worker.py`:

    tests ──start──▶ server (imports once) ──forks──▶ worker
    raylet ──starts──▶ this script ──asks──▶ server; ends when the worker has ended

A worker whose code or settings differ from the server's starts as Ray starts it.
"""

import ctypes
import json
import os
import runpy
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

IMPORTED = (
    "ray_train.training.driver", "ray_train.training.loop", "ray_train.checkpoints.manager",
    "ray_train.evaluation.evaluate", "ray.train.v2._internal.execution.controller",
    "deepspeed.runtime.zero.muon.muon_optimizer", "transformers.models.auto.image_processing_auto",
)  # fmt: skip
READ_AT_IMPORT = (
    "PYTHONPATH", "PYTHONHASHSEED", "OMP_NUM_THREADS", "HF_HOME", "HF_HUB_OFFLINE", "RAY_AUTH_MODE",
    "RAY_AUTH_TOKEN_PATH",
)  # fmt: skip
SCRIPT = __file__
SOCKET = "BISIEVE_TEST_FORKS"
PR_SET_PDEATHSIG = 1  # of Linux: the signal for when the parent has ended
LENGTH = 10  # digits before a request

_exec = os.execvp


@dataclass
class ForkServer:
    """A server that runs."""

    pid: int
    token: str  # of each Ray that uses it
    environment: dict[str, str]  # what a Ray needs beside its own to use it

    def program(self, *words: str) -> list[str]:
        """Return the command that runs ``python WORDS`` so that its Ray uses the server."""
        return [sys.executable, __file__, "run", *words]


@contextmanager
def fork_server(folder: Path, environment: Mapping[str, str]) -> Iterator[ForkServer]:
    """Run the server with ``environment``."""
    address, token, file = str(folder / "forks"), "c0ffee" * 8, folder / "token"
    file.write_text(token)
    locked = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(file)}
    # Ray's core reads these two when it is imported: the workers are of any job, and of any raylet.
    whole = {**environment, **locked, "RAY_JOB_ID": "ffffffff", "RAY_RAYLET_PID": str(os.getpid())}
    ready, started = os.pipe()
    command = [sys.executable, __file__, "serve", address, str(started)]
    with subprocess.Popen(command, env=whole, pass_fds=[started], start_new_session=True) as server:
        os.close(started)
        try:
            os.read(ready, 1)  # ends when the server listens
            os.close(ready)
            yield ForkServer(server.pid, token, {SOCKET: address, **locked})
        finally:
            server.kill()


def fork_workers() -> None:
    """Make each Ray that this process starts from now on fork its workers, where a server runs."""
    from ray._private.parameter import RayParams

    set_defaults = RayParams.update_if_absent

    def update_if_absent(self: RayParams, **options: Any) -> None:
        if "setup_worker_path" in options and SOCKET in os.environ:
            options["setup_worker_path"] = SCRIPT
        set_defaults(self, **options)

    RayParams.update_if_absent = update_if_absent


def ask(arguments: list[str]) -> None:
    """Have a worker forked, and wait until it has ended."""
    request = json.dumps([arguments, dict(os.environ), os.getcwd()]).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(os.environ[SOCKET])
        socket.send_fds(server, [b"%*d" % (LENGTH, len(request))], [0, 1, 2])
        server.sendall(request)
        server.recv(1)


def serve(address: str, ready: int) -> None:
    """Import, then fork a worker for each request, as long as the tests run."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    keep_random_ids_apart()
    for name in IMPORTED:
        import_module(name)
    from ray_train.compat.deepspeed import import_deepspeed

    import_deepspeed()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    os.close(ready)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            become_worker(connection)
        connection.close()


def keep_random_ids_apart() -> None:
    """Do not let the first random id of Ray's core be made before a fork: all forks would make the same ones.

    The core is seeded when it makes one. Ray makes one for each class of actors that is imported.
    """
    import ray.actor

    of_core = ray.actor.ActorClassID
    made_here = SimpleNamespace(from_random=lambda: of_core(os.urandom(of_core.size())))
    ray.actor.ActorClassID = made_here


def become_worker(connection: socket.socket) -> NoReturn:
    """Take over what the script was started with, and run Ray's own set-up and worker in this process."""
    length, files, *_ = socket.recv_fds(connection, LENGTH, 3)
    request = b""
    while len(request) < int(length):
        request += connection.recv(1 << 20)
    arguments, environment, folder = json.loads(request)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.setpgid(0, 0)  # Ray kills the whole group of a worker that has ended
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    imported_with = settings_read()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)

    def in_this_process(file: str, args: list[str]) -> None:
        words = shlex.split(args[2])  # of a shell
        if words[:2] == ["exec", sys.executable] and settings_read() == imported_with:
            run([word for word in words[2:] if word != "-u"])
        else:
            _exec(file, args)

    from ray._private import workers

    os.execvp = in_this_process  # type: ignore[assignment]
    status = 1
    try:
        run([str(Path(workers.__path__[0], "setup_worker.py")), *arguments])
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # what the server would do at its end is not this process's


def settings_read() -> list[str | None]:
    """Return the settings that modules read once, when they are imported."""
    return [os.environ.get(name) for name in READ_AT_IMPORT]


def run(words: list[str]) -> None:
    """Run a script with its arguments as Python would."""
    sys.argv = words
    sys.path[0] = str(Path(words[0]).parent)
    runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", address, ready]:
            serve(address, int(ready))
        case ["ray", *_]:  # as the command `ray`
            from ray.scripts.scripts import main

            from ray_train.compat.agent_ports import told_listen_port

            fork_workers()
            sys.argv = sys.argv[1:]
            with told_listen_port():
                sys.exit(main())
        case ["run", "-c", code]:
            fork_workers()
            del __file__  # of such code there is no file, which a process that it starts would import
            exec(code, {"__name__": "__main__"})
        case ["run", *words]:  # a program that starts a Ray of its own
            fork_workers()
            run(words)
        case words:
            ask(words)
