"""Shared fixtures: a real Spark, a real S3 server, and corpora small enough to make."""

import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import fields
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from support.faulty_proxy import FaultyProxy
from support.forked_workers import ForkServer, fork_server
from support.lean_jvm import LEAN_JVM, ONE_COMPILER
from support.scheduling import pytest_collection_modifyitems, pytest_xdist_make_scheduler  # noqa: F401

FreePorts = Callable[..., dict[str, int]]

os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
os.environ.setdefault("SPARK_SUBMIT_OPTS", ONE_COMPILER)  # bisieve itself chooses the collector
os.environ.setdefault("SPARK_DAEMON_JAVA_OPTS", LEAN_JVM)
os.environ.setdefault("REPORTER_UPDATE_INTERVAL_MS", "60000")  # a Ray's statistics of its processes
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of torch, before it is imported
os.environ.setdefault("RAY_agent_register_timeout_ms", "180000")  # two of pytest's processes start engines
os.environ.setdefault(
    "RAY_worker_niceness", "0"
)  # else its workers wait for all other tests: their own do not

# Of each Python that the tests start.
STARTUP = str(Path(__file__).with_name("support") / "startup")
os.environ["PYTHONPATH"] = os.pathsep.join([STARTUP, *filter(None, [os.environ.get("PYTHONPATH")])])

# What one process has compiled is there for the hundreds that come after it, also without make.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell starts a command in the background with Ctrl-C ignored, and so would all that the tests interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

gc.set_threshold(100_000, 20, 20)  # the vocabularies of tokenizers are millions of objects and no garbage

# The same examples every time, and no timing: a slow machine is not a failure.
settings.register_profile("bisieve", derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("bisieve")


def pytest_collection_finish() -> None:
    gc.freeze()  # what is imported by now is no garbage


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    gc.collect()
    gc.freeze()  # pytest looks for garbage five times more, and Python once: half a second each


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A folder to mount on; its path is open to every user."""
    folder = tmp_path / "disk"
    folder.mkdir()
    for above in folder.parents:
        if above.stat().st_uid == os.getuid() and above.name.startswith(("pytest-", "popen-", tmp_path.name)):
            above.chmod(0o755)
    return folder


@pytest.fixture
def ctrl_c_as_python_has_it() -> Iterator[None]:
    """A Spark that other tests share would otherwise be told of the interrupt, and end with it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def spark(s3: str) -> Iterator[Any]:
    """A local Spark; it comes after the S3 server since its workers keep the environment it starts with."""
    from bisieve.spark.session import spark_context

    with spark_context("local[2]") as context:
        yield context


@pytest.fixture(scope="session")
def score() -> Callable[..., Any]:
    """Scores shards into an index; returns the index and whether it was written.

    The local engine does it, in this process where a corpus is small.  Options are those of `ScoreRequest`
    and of `ReadOptions`.
    """
    from bisieve.local.engine import local_engine

    return partial(_score, local_engine)


@pytest.fixture
def score_with_spark(spark: Any) -> Callable[..., Any]:
    """As `score`, with the shared Spark."""
    from bisieve.spark.engine import engine_on

    return partial(_score, lambda size: engine_on(spark))


def _score(open_engine: Any, inputs: Any, index: Any, emit: Any = None, **options: Any) -> Any:
    from bisieve.events import null_sink
    from bisieve.pipeline.run import ScoreRequest, score_corpus
    from bisieve.records.options import ReadOptions

    urls = [inputs] if isinstance(inputs, str | Path) else inputs
    asked = {field.name for field in fields(ReadOptions)} & options.keys()
    reading = ReadOptions(**{name: options.pop(name) for name in asked})
    options = {"alpha": 0.05, "reading": reading, **options}
    request = ScoreRequest(tuple(map(str, urls)), str(index), **options)
    return score_corpus(open_engine, request, emit or null_sink)


@pytest.fixture(scope="session")
def free_ports() -> FreePorts:
    """Finds a free port for each of some names.

    All are below 32768. From there on the system chooses when a process asks for any free port, so another
    process could take such a port before it is used.
    """
    pytest_process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 20_000 + 4_000 * (pytest_process % 3)
    candidates = cycle(range(first, first + 4_000))
    for _ in range(os.getpid() % 4_000):  # of two runs of pytest at once, too
        next(candidates)

    def is_free(port: int) -> bool:
        with socket.socket() as one, suppress(OSError):
            one.bind(("", port))
            return True
        return False

    def find(*names: str) -> dict[str, int]:
        return {name: next(filter(is_free, candidates)) for name in names}

    return find


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Forks the workers of all these tests' Rays: also of one that `ForkServer.program` starts."""
    with fork_server(tmp_path_factory.mktemp("forks"), os.environ) as server:
        yield server


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this source."""
    root, folder = Path(__file__).parents[1], tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(root / name, folder)
    for name in ("lib", "ray_train"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(root / name, folder / name, ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "."]
    subprocess.run([*command, "--wheel-dir", "."], cwd=folder, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory, free_ports: FreePorts) -> Iterator[str]:
    """The URL of a bucket on a SeaweedFS server of our own; the environment leads s3fs there."""
    folder = tmp_path_factory.mktemp("s3")
    key, secret = "bisieve-test", "not-a-secret"
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {"name": key, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    # SeaweedFS serves gRPC at each port + 10,000 unless told otherwise.
    names = ("master", "volume", "filer", "s3")
    ports, grpc = free_ports(*names), free_ports(*names)
    weed = Path(sys.executable).with_name("weed")
    command = [
        str(weed),
        "server",
        f"-dir={folder / 'data'}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-filer",
        "-s3",
    ]
    command += [f"-s3.config={folder / 's3.json'}", "-volume.max=100", "-master.volumeSizeLimitMB=64"]
    for name in names:
        command += [f"-{name}.port={ports[name]}", f"-{name}.port.grpc={grpc[name]}"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # or two servers meet at one port
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    patch = pytest.MonkeyPatch()
    for name, value in environment.items():
        patch.setenv(name, value)
    _forget_s3_clients()
    try:
        _make_bucket("corpus", folder / "log")
        yield "s3://corpus"
    finally:
        patch.undo()
        server.kill()  # SIGTERM is ignored for seconds
        server.wait()


def _forget_s3_clients() -> None:
    """Drop the clients of earlier tests, which were made without the server's credentials."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()


def _make_bucket(name: str, log: Path) -> None:
    import s3fs

    # A server that is only half up may take a request and never answer it.
    impatient = {"connect_timeout": 2, "read_timeout": 2, "retries": {"max_attempts": 0}}
    for _ in range(60):
        try:
            s3fs.S3FileSystem(skip_instance_cache=True, config_kwargs=impatient).mkdir(name)
            return
        except Exception:
            time.sleep(0.5)
    raise RuntimeError(f"SeaweedFS did not come up:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def proxy(s3: str) -> Iterator[FaultyProxy]:
    """A proxy before the S3 server, to be made faulty; nobody is led there."""
    proxy = FaultyProxy(os.environ["AWS_ENDPOINT_URL"])
    yield proxy
    proxy.close()


@pytest.fixture
def faulty_s3(proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """The proxy, calm, with this process led through it."""
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setattr("bisieve.io.retry.FIRST_PAUSE", 0.05)
    s3fs.S3FileSystem.clear_instance_cache()
    proxy.calm()
    yield proxy
    proxy.calm()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def lead_s3_to(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Leads this process to another S3 endpoint, which is asked four times without a pause."""
    import s3fs

    def lead(endpoint: str) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setattr("bisieve.io.retry.FIRST_PAUSE", 0.001)
        s3fs.S3FileSystem.clear_instance_cache()

    yield lead
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def rollout() -> Callable[..., dict[str, Any]]:
    """Makes a usable record of the rollouts layout; keywords replace fields, None drops one."""

    def make(scores: Sequence[Any] = (1.0, 0.5, 0.0), **fields: Any) -> dict[str, Any]:
        steps = [
            {"step": f"step {place}", "score": score, "num_mc_correct": round(score * 16), "num_mc_total": 16}
            if isinstance(score, int | float)
            else {"step": f"step {place}", "score": score}
            for place, score in enumerate(scores)
        ]
        record = {"image": "a.png", "question": "What?", "steps_with_score": steps, **fields}
        return {name: value for name, value in record.items() if value is not None}

    return make


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Writes records (dicts, or lines as bytes) as a shard below the test's folder."""

    def write(name: str, records: Sequence[Any]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            record if isinstance(record, bytes) else json.dumps(record, ensure_ascii=False).encode()
            for record in records
        ]
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return path

    return write


@pytest.fixture
def indexed(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> Path:
    """An index of three rollouts in ``indexed.jsonl``."""
    shard = write_jsonl("indexed.jsonl", [rollout([1.0, 0.0]), rollout([1.0]), rollout([0.5, 0.5])])
    score(shard, tmp_path / "indexed")
    return tmp_path / "indexed"
