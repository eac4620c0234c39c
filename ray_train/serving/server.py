"""Serve a model until Ctrl-C or SIGTERM: replicas on Ray Serve, and an HTTP server in this process.

    clients ──HTTP──▶ uvicorn, `application` ──handle of Ray Serve──▶ replicas, each a `Judge`

Ray Serve places, watches and restarts the replicas and chooses one for each request. Its own HTTP proxy is
left out: it takes bodies of any size into memory, answers errors as text, and needs no token (Ray 2.60).
"""

import asyncio
import logging
import os
import socket
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uvicorn
from PIL import Image

from bisieve import console
from bisieve._text import pluralize
from bisieve.errors import BisieveError, TrainingError, UsageError
from ray_train.cluster import cluster, silenced_core, unwrapped
from ray_train.config_io import located, secret_in
from ray_train.model.metadata import check_model
from ray_train.serving.application import Server, application
from ray_train.serving.config import LOOPBACK, ServeConfig
from ray_train.serving.heap import collect_garbage_often, limit_arenas, trim_memory
from ray_train.serving.judge import Judge
from ray_train.serving.question import Question, RefusedError, Scored, Served

TOKEN = "BISIEVE_SERVE_TOKEN"  # environment variable with what clients must give, if it is set
_TRIES = 2  # replicas that are asked, one after the other, if they die
_UNAVAILABLE = 503
_HEALTH_TIME = 5.0  # seconds
_PROBES = 8  # requests for health that a replica takes beside those of a full queue
_QUIET = {"enable_access_log": False, "log_level": "ERROR"}  # of Ray Serve's own processes, into their files


def serve(config: ServeConfig, ready: Callable[[str], None] | None = None) -> None:
    """Serve a model until Ctrl-C or SIGTERM; requests in flight are answered first.

    Args:
        config: The options.
        ready: Called with the URL when the server answers; by default it is printed.

    Raises:
        UsageError: A value is out of range, the port is not free, or the token cannot be sent.
        TrainingError: The model cannot be loaded, or Ray does not start.
        KeyboardInterrupt: At the end, with the number of answers as its note.
    """
    config.check()
    if Path(config.model).expanduser().exists():
        config = replace(config, model=str(Path(config.model).expanduser().absolute()))
    token = secret_in(TOKEN)
    check_model(located(config).model, "--model")  # before Ray starts, so that a mistake is reported early
    is_own = not _is_shared()  # a Ray that ends with the command
    limit_arenas()
    with _listening(config) as listening, cluster(config.num_replicas) as ray:
        console.phase(f"loading the model in {pluralize(config.num_replicas, 'replica')}")
        with deployed(ray, config, is_own) as replicas:
            server = Server(replicas.served, config, replicas.score, replicas.are_healthy, token)
            host, port = listening.getsockname()[:2]
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            if not server.token and config.host not in LOOPBACK:
                console.show_on_stderr(f"warning: all that reach {url} can ask it; {TOKEN} sets a token")
            _run(server, listening, config.grace, lambda: (ready or _show_ready)(url))


def _is_shared() -> bool:
    """Return whether the Ray that is used was there before, and will be after."""
    ray = sys.modules.get("ray")
    return "RAY_ADDRESS" in os.environ or bool(ray and ray.is_initialized())


@contextmanager
def _listening(config: ServeConfig) -> Iterator[socket.socket]:
    """Yield a socket at the address of ``config``, which takes no connections yet."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # also just after another one ended
        try:
            listening.bind((config.host, config.port))
        except (OSError, TypeError) as error:  # TypeError: a null character in the host
            raise _not_free(config, error) from error
        yield listening


def _not_free(config: ServeConfig, error: Exception) -> UsageError:
    found = f"{config.host}:{config.port}: {getattr(error, 'strerror', None) or error}"
    return UsageError("a free --port of this --host", found, "give others, or --port 0")


@dataclass(frozen=True)
class Replicas:
    """The replicas of a model, reached through a handle of Ray Serve."""

    handle: Any
    served: Served

    async def score(self, asked: Question) -> Scored | RefusedError:
        """Ask a replica; if it dies, another one, since scoring changes nothing."""
        from ray.exceptions import RayError, RayTaskError
        from ray.serve.exceptions import RayServeException

        for _ in range(_TRIES):
            try:
                answer: Scored | RefusedError = await self.handle.score.remote(asked)
            except RayTaskError:  # raised by the replica itself: a fault of ours
                raise
            except (RayError, RayServeException):
                await asyncio.sleep(0.1)
                continue
            return answer
        return RefusedError("a replica that answers", "none", "ask again a little later", _UNAVAILABLE)

    def are_healthy(self) -> bool:
        """Return whether a replica answers, and has its model."""
        try:
            served = self.handle.served.remote().result(timeout_s=_HEALTH_TIME)
        except Exception:  # Ray Serve's, and a timeout
            return False
        return isinstance(served, Served)


@contextmanager
def deployed(ray: Any, config: ServeConfig, is_own: bool) -> Iterator[Replicas]:
    """Yield the replicas of a model, which end with the block.

    Args:
        ray: The module, connected.
        config: The options.
        is_own: Whether this Ray ends with the block, and all that runs on it.

    Raises:
        TrainingError: The model cannot be loaded, or Ray Serve does not start its replicas.
    """
    from ray import serve as ray_serve

    logging.getLogger("ray.serve").setLevel(logging.CRITICAL)
    app = f"bisieve-{uuid.uuid4().hex[:8]}"  # another application of a shared Ray stays as it is
    try:
        ray_serve.start(proxy_location="Disabled", logging_config=_QUIET)
        judge: Any = ray_serve.deployment(Judge)
        deployment = judge.options(
            name="judge", num_replicas=config.num_replicas, ray_actor_options=_resources(ray, config),
            max_ongoing_requests=config.max_queue + _PROBES, logging_config=_QUIET,
            graceful_shutdown_timeout_s=1, graceful_shutdown_wait_loop_s=0.1,
        )  # fmt: skip
        try:
            handle = ray_serve.run(deployment.bind(config), name=app, route_prefix=None)
            served = handle.served.remote().result()
        except (RuntimeError, ray.exceptions.RayError) as error:
            hint = "look into the logs of Ray Serve"
            raise unwrapped(error, "replicas that start", hint) from error
        if isinstance(served, BisieveError):
            raise served
        yield Replicas(handle, served)
    finally:
        if not is_own:
            _remove(ray_serve, app)


def _resources(ray: Any, config: ServeConfig) -> dict[str, float]:
    """Return the CPU cores and GPUs of a replica.

    Raises:
        TrainingError: This machine has fewer GPUs.
    """
    there = int(ray.cluster_resources().get("GPU", 0))
    wanted = config.gpus_per_replica
    gpus = float(there >= config.num_replicas) if wanted < 0 else wanted
    if gpus * config.num_replicas > there and "RAY_ADDRESS" not in os.environ:
        raise TrainingError(
            f"{config.num_replicas * gpus:g} GPUs on this machine",
            str(there),
            "give another --gpus-per-replica",
        )
    cores = os.cpu_count() or 1
    cpus = config.cpus_per_replica or (1 if gpus else max(1, cores // config.num_replicas))
    return {"num_cpus": cpus, "num_gpus": gpus}


def _remove(ray_serve: Any, app: str) -> None:
    """Remove an application from Ray Serve, and Ray Serve itself if it has no other."""
    # Ray prints that actors end, most of it here, where nobody needs to see it; and Ray itself may be gone.
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), silenced_core(), suppress(Exception):
        ray_serve.delete(app)
        if not ray_serve.status().applications:
            ray_serve.shutdown()


def _run(server: Server, listening: socket.socket, grace: int, ready: Callable[[], None]) -> None:
    """Answer requests until a signal; then answer those in flight, and raise `KeyboardInterrupt`.

    Raises:
        UsageError: Another program has begun to listen at the address.
        KeyboardInterrupt: At the end.
    """

    class Announced(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            collect_garbage_often()
            self.trimming = asyncio.create_task(trim_memory())  # ends with the event loop
            ready()

    config = uvicorn.Config(
        application(server), log_level="critical", access_log=False, server_header=False, lifespan="off",
        timeout_graceful_shutdown=grace, timeout_keep_alive=65,
    )  # fmt: skip
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # --max-pixels is below its limit
    try:
        listening.listen(config.backlog)  # here, as uvloop does not tell of a failure
    except OSError as error:  # another program began to listen while the model was loading
        raise _not_free(server.config, error) from error
    ended = KeyboardInterrupt()  # also where Ctrl-C is ignored, as in the background of a script
    running = Announced(config)
    try:
        running.run(sockets=[listening])
    except KeyboardInterrupt as interrupt:
        ended = interrupt
    when = "" if running.force_exit else f" after {grace} s"  # a second Ctrl-C waits for none
    left = f", {server.cut_off} cut off{when}" if server.cut_off else ""
    ended.add_note(f"{pluralize(server.metrics.answered, 'request')} answered{left}")
    raise ended


def _show_ready(url: str) -> None:
    console.show(f"ready: {url}; Ctrl-C ends it")
