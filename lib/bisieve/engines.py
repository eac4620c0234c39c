"""Choice of the engine: processes of this machine ("local") or Spark.

`choose_engine` returns a function that opens the engine when the number of bytes to score is known;
`prepare_engine` starts the local one earlier.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, TypeAlias

from bisieve.events import EventSink, null_sink
from bisieve.io.errors import existing_folder
from bisieve.local.engine import local_engine
from bisieve.local.processes import start_server, temporary_folder, usable_cores, usable_workers
from bisieve.pipeline.engine import Engine, OpenEngine

LIMIT_A_CORE = 100 * 10**9  # bytes that one core scores in about 15 minutes
Asked: TypeAlias = Literal["auto", "local", "spark"]


def prepare_engine(asked: Asked = "auto", workers: int | None = None, **options: Any) -> None:
    """Start the server process of the local engine early, unless the options already select Spark.

    ``options`` are those of `choose_engine`; a single worker needs no server.
    """
    if (
        _named(asked, options.get("master"), options.get("conf")) != "spark"
        and (workers or usable_workers()) > 1
    ):
        start_server()


def choose_engine(
    asked: Asked = "auto",
    workers: int | None = None,
    limit: int | None = None,
    master: str | None = None,
    conf: Mapping[str, str] | None = None,
    emit: EventSink = null_sink,
) -> OpenEngine:
    """Return a function that opens an engine, as a context manager, for a number of bytes to score.

    Args:
        asked: "auto" is Spark under spark-submit, with ``master`` or ``conf``, or above ``limit``; else it
            is the local engine.
        workers: Processes of the local engine; None: one per core.
        limit: Bytes up to which "auto" is the local engine; None: `default_limit`.
        master: Spark's master URL.
        conf: Spark properties.
        emit: Receives the event ``engine`` when the engine is opened, with a text if the size decided for
            Spark.
    """
    named = _named(asked, master, conf)
    if named == "spark":
        import bisieve.spark.engine  # noqa: F401 - reports a missing pyspark before shards are listed
    return partial(_opened, named, workers, limit, master, conf or {}, emit)


def _named(asked: Asked, master: str | None, conf: Mapping[str, str] | None) -> str | None:
    """Return the engine that the options or spark-submit select, or None if the size decides."""
    if asked != "auto":
        return asked
    is_submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # set by spark-submit
    return "spark" if is_submitted or master is not None or conf else None


def default_limit(workers: int | None = None) -> int:
    """Return the bytes of shards up to which "auto" is the local engine, from cores and free disk space."""
    # Temporary files need a tenth of the size of plain shards, and at worst twice that of compressed ones.
    free = shutil.disk_usage(existing_folder(temporary_folder())).free
    return min((workers or usable_cores()) * LIMIT_A_CORE, free)


@contextmanager
def _opened(
    named: str | None,
    workers: int | None,
    limit: int | None,
    master: str | None,
    conf: Mapping[str, str],
    emit: EventSink,
    size: int,
) -> Iterator[Engine]:
    """Open the engine ``named``, or the one that ``size`` (bytes to score) selects."""
    text = ""
    if named is None:
        limit = default_limit(workers) if limit is None else limit
        named = "spark" if size > limit else "local"
        if named == "spark":
            text = f"{size / 1e9:,.1f} GB to read exceed --local-limit {limit / 1e9:,.1f} GB: using Spark"
    emit("engine", text, engine=named, bytes=size)
    if named == "local":
        with local_engine(size, workers) as engine:
            yield engine
        return
    from bisieve.spark.engine import spark_engine

    with spark_engine(master, conf) as on_spark:
        yield on_spark
