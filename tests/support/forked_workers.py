"""Fork Ray's workers and programs from a process that has already imported torch, transformers and DeepSpeed.

A training on two workers takes 35 seconds of a core, most of which import these in four processes. Everything
else stays as it is: real raylets, real workers in processes of their own, which can be killed.

A raylet runs this script in place of Ray's own `setup_worker.py`; a test runs it in place of ``python``:

    tests ──start──▶ server (imports once) ──forks──▶ worker, or program
    raylet or test ──starts──▶ this script ──asks──▶ server; ends when the fork has ended

What is sent to this script of a program, SIGTERM, Ctrl-C or kill -9, happens to the program.
A worker or a program whose code or settings differ from the server's starts as without the server.
"""

import atexit
import ctypes
import gc
import json
import os
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from filecmp import cmp
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

IMPORTED = (
    "ray_train.training.driver", "ray_train.training.loop", "ray_train.checkpoints.manager",
    "ray_train.evaluation.evaluate", "ray.train.v2._internal.execution.controller",
    "deepspeed.runtime.zero.muon.muon_optimizer", "transformers.models.auto.image_processing_auto",
    "ray.dashboard.agent", "ray.dashboard.modules.job.job_agent",
    "ray.dashboard.modules.reporter.reporter_agent", "ray._private.runtime_env.agent.runtime_env_agent",
)  # fmt: skip
OF_JOBS = "lib:."  # what a job that has taken its code along has in PYTHONPATH, behind the folder of the code
READ_AT_IMPORT = (
    "PYTHONPATH", "PYTHONHASHSEED", "OMP_NUM_THREADS", "HF_HOME", "HF_HUB_OFFLINE", "RAY_AUTH_MODE",
    "RAY_AUTH_TOKEN_PATH",
)  # fmt: skip
SCRIPT = __file__
SOCKET = "BISIEVE_TEST_FORKS"
PR_SET_PDEATHSIG = 1  # of Linux: the signal for when the parent has ended
LENGTH = 10  # digits before a request
FORWARDED = (signal.SIGINT, signal.SIGTERM)  # by the script to a program
NOT_HERE = "not here"  # what a program says that cannot be a fork of the server

_exec = os.execvp


@dataclass
class ForkServer:
    """A server that runs."""

    pid: int
    token: str  # of each Ray that uses it
    environment: dict[str, str]  # what a Ray needs beside its own to use it

    def program(self, *words: str) -> list[str]:
        """Return the command that runs ``python WORDS``, and its Ray, as forks of the server."""
        return [sys.executable, __file__, "program", *words]


@contextmanager
def fork_server(folder: Path, environment: Mapping[str, str]) -> Iterator[ForkServer]:
    """Run the server with ``environment``."""
    address, token, file = str(folder / "forks"), "c0ffee" * 8, folder / "token"
    file.write_text(token)
    locked = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(file)}
    locked |= {"RAY_enable_pipe_based_agent_to_parent_health_check": "1"}  # a fork's parent is no raylet
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
    """Make each Ray that this process starts from now on fork its workers and agents, where a server runs."""
    from ray._private import services
    from ray._private.parameter import RayParams

    set_defaults, python = (
        RayParams.update_if_absent,
        services._build_python_executable_command_memory_profileable,
    )

    def update_if_absent(self: RayParams, **options: Any) -> None:
        if "setup_worker_path" in options and SOCKET in os.environ:
            options["setup_worker_path"] = SCRIPT
        set_defaults(self, **options)

    def python_of_agents(*asked: Any, **options: Any) -> list[str]:
        return [sys.executable, SCRIPT, "program"] if SOCKET in os.environ else python(*asked, **options)

    RayParams.update_if_absent = update_if_absent
    services._build_python_executable_command_memory_profileable = python_of_agents


def ask(kind: str, arguments: list[str]) -> str:
    """Have a worker or a program forked, and wait until it has ended.

    Returns:
        What a program tells at its end: its exit code, or `NOT_HERE`.  "" where it was killed.
    """
    request = json.dumps([kind, arguments, dict(os.environ), os.getcwd()]).encode()
    with socket.socket(socket.AF_UNIX) as server:

        def forward(number: int, frame: object) -> None:
            with suppress(OSError):  # it ends just now
                server.sendall(bytes([number]))

        server.connect(os.environ[SOCKET])
        socket.send_fds(server, [b"%*d" % (LENGTH, len(request))], [0, 1, 2])
        server.sendall(request)
        if kind == "program":
            for number in FORWARDED:
                signal.signal(number, forward)
        told = b""
        while more := server.recv(LENGTH):
            told += more
        return told.decode()


def ask_for_program(words: list[str]) -> NoReturn:
    """Run a program as a fork of the server, else in this process; end as it ends."""
    match ask("program", words):
        case "":
            os.kill(os.getpid(), signal.SIGKILL)
        case code if code != NOT_HERE:
            sys.exit(int(code))
    for number in FORWARDED:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    fork_workers()
    sys.exit(run_program(words))


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
    gc.collect()
    gc.freeze()  # else a fork that looks for garbage copies all that was imported
    os.close(ready)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            kind, arguments, imported_with = take_over(connection)
            if kind == "program":
                become_program(connection, arguments, imported_with)
            become_worker(arguments, imported_with)
        connection.close()


def keep_random_ids_apart() -> None:
    """Do not let the first random id of Ray's core be made before a fork: all forks would make the same ones.

    The core is seeded when it makes one. Ray makes one for each class of actors that is imported.
    """
    import ray.actor

    of_core = ray.actor.ActorClassID
    made_here = SimpleNamespace(from_random=lambda: of_core(os.urandom(of_core.size())))
    ray.actor.ActorClassID = made_here


def take_over(connection: socket.socket) -> tuple[str, list[str], list[str | None]]:
    """Take over what the script was started with.

    Returns:
        What is to be run, ``worker`` or ``program``, its words, and the settings that modules were imported
        with.
    """
    length, files, *_ = socket.recv_fds(connection, LENGTH, 3)
    request = b""
    while len(request) < int(length):
        if not (more := connection.recv(1 << 20)):
            os._exit(1)  # who asked was killed meanwhile
        request += more
    kind, arguments, environment, folder = json.loads(request)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.setpgid(0, 0)  # Ray kills the whole group of a worker that has ended
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    imported_with = settings_read()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None
    return kind, arguments, imported_with


def become_program(connection: socket.socket, words: list[str], imported_with: list[str | None]) -> NoReturn:
    """Run a program in this process, which gets the signals of the script and ends where that ends."""
    if not suits(imported_with):
        connection.sendall(NOT_HERE.encode())
        os._exit(0)

    def obey() -> None:
        while number := connection.recv(1):
            os.kill(os.getpid(), number[0])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=obey, daemon=True).start()
    from ray._raylet import Config

    Config.initialize("")  # else Ray's core keeps the settings with which the server was started
    fork_workers()
    status = run_program(words)
    threading._shutdown()  # type: ignore[attr-defined]  # what Python does at its end, but for taking down
    atexit._run_exitfuncs()  # all that was imported, which would take longer than a small program
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(str(status).encode())
    os._exit(status)


def run_program(words: list[str]) -> int:
    """Run ``python WORDS`` in this process; return its exit code."""
    try:
        if words[0] == "-c":
            main = ModuleType("__main__")  # of no file, which a process that it starts would import
            sys.modules["__main__"], sys.argv, sys.path[0] = main, ["-c", *words[2:]], ""
            exec(words[1], main.__dict__)
        else:
            run(words)
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    return 0


def become_worker(arguments: list[str], imported_with: list[str | None]) -> NoReturn:
    """Run Ray's own set-up and worker in this process."""

    def in_this_process(file: str, args: list[str]) -> None:
        words = shlex.split(args[2])  # of a shell
        if words[0] == "cd" and words[2] == "&&":  # to the code of a job
            os.chdir(words[1])
            words = words[3:]
        if words[:2] == ["exec", sys.executable] and suits(imported_with):
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


def suits(imported_with: list[str | None]) -> bool:
    """Return whether what was imported is what this process would import, or the same code elsewhere."""
    (code, *others), folder = settings_read(), Path.cwd()
    of_job = os.pathsep.join(filter(None, [str(folder), OF_JOBS, imported_with[0]]))
    return others == imported_with[1:] and (code == imported_with[0] or (code == of_job and is_copy(folder)))


def is_copy(folder: Path) -> bool:
    """Return whether a job's code in ``folder`` is that of this checkout, to the byte."""
    root = Path(__file__).parents[2]
    ours = {
        path.relative_to(root)
        for name in ("lib/bisieve", "ray_train")
        for path in (root / name).rglob("*.py")
    }
    theirs = {path.relative_to(folder) for path in folder.rglob("*.py")}
    return ours <= theirs and all(cmp(root / path, folder / path, shallow=False) for path in ours)


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
            from few_daemons import start_few_daemons  # beside this script
            from ray.scripts.scripts import main

            from ray_train.compat.ray_init import preset_listen_port

            fork_workers()
            start_few_daemons()
            sys.argv = sys.argv[1:]
            with preset_listen_port():
                sys.exit(main())
        case ["program", *words]:
            ask_for_program(words)
        case words:
            ask("worker", words)
