"""The secret of a standalone Spark (``spark.authenticate``): from the environment, checked on its master.

Without this check Spark tries for a minute to reach a master that refuses it, and then its error does not
mention a secret.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark import SparkConf

from bisieve.errors import UsageError

SECRET = "_SPARK_AUTH_SECRET"  # Spark's own variable, which its master, workers and executors read, too
_SWITCH, _PROPERTY = "spark.authenticate", "spark.authenticate.secret"
_PATIENCE = {"spark.rpc.lookupTimeout": "10s", "spark.rpc.askTimeout": "10s"}
_ASKS = "Expected SaslMessage"  # answer of a master that requires a secret to a client without one


def add_secret(options: SparkConf, jvm: Any) -> None:
    """Add the environment's secret to ``options`` if their master is a standalone one, and check it there.

    Args:
        options: Configuration of the context to be made; changed in place.
        jvm: py4j's view of a running JVM.  The secret is added only now, since every user of a machine can
            see the command line that a JVM is started with.

    Raises:
        UsageError: The master requires a secret, and there is none or another one; or it requires none.
    """
    conf = jvm.org.apache.spark.SparkConf()  # includes the properties that spark-submit was given
    for name, value in options.getAll():
        conf.set(name, value)
    master = conf.get("spark.master", "")
    if not master.startswith("spark://"):
        return
    if secret := os.environ.get(SECRET):
        for name, value in {_SWITCH: "true", _PROPERTY: secret}.items():
            options.set(name, value)
            conf.set(name, value)
    is_locked = conf.get(_SWITCH, "false").lower() == "true"
    if is_locked and not conf.get(_PROPERTY, ""):
        raise UsageError(f"a secret, since {_SWITCH} is set", f"none in {SECRET}", f"set {SECRET} to it")
    # Spark configures its logging with its first log line, which overwrites log levels set before: write one.
    _security_manager(jvm, conf)
    with _silent(jvm):
        for place in master.removeprefix("spark://").split(","):
            _check(jvm, conf, place, is_locked)


def _check(jvm: Any, conf: Any, place: str, has_secret: bool) -> None:
    """Raise `UsageError` if the master at ``place`` refuses because of the secret.

    Other failures are ignored here: Spark reports them.
    """
    expected = f"the secret that the Spark master at {place} requires"
    refusal = _refusal(jvm, conf, place)
    if refusal is None:
        return
    if not has_secret:
        if _ASKS in refusal:
            raise UsageError(expected, "none", f"set {SECRET} to it")
        return
    refusal = _refusal(jvm, conf.clone().set(_SWITCH, "false"), place)
    if refusal is None:
        raise UsageError(
            f"a Spark master at {place} that requires the secret in {SECRET}", "one that requires no secret",
            f"start its master and workers with {_SWITCH}=true, or unset {SECRET}",
        )  # fmt: skip
    if _ASKS in refusal:
        raise UsageError(expected, "another one", f"set {SECRET} to the master's")


def _refusal(jvm: Any, conf: Any, place: str) -> str | None:
    """Connect to the master at ``place`` (HOST:PORT); return the error text, or None if it accepts."""
    conf = conf.clone()
    for name, value in _PATIENCE.items():
        conf.set(name, value)
    rpc_env = jvm.org.apache.spark.rpc
    host, _, port = place.rpartition(":")
    rpc = rpc_env.RpcEnv.create("bisieve", "127.0.0.1", 0, conf, _security_manager(jvm, conf), True)
    try:
        rpc.setupEndpointRef(rpc_env.RpcAddress(host, int(port)), "Master")
    except Py4JJavaError as error:
        return str(error)
    finally:
        rpc.shutdown()
    return None


def _security_manager(jvm: Any, conf: Any) -> Any:
    manager = jvm.org.apache.spark.SecurityManager
    return manager(conf, *(getattr(manager, f"$lessinit$greater$default${number}")() for number in (2, 3)))


@contextmanager
def _silent(jvm: Any) -> Iterator[None]:
    """Switch off Spark's network logging in the block: a refusal is reported in one line, without a stack."""
    log4j = jvm.org.apache.logging.log4j
    loggers = ["org.apache.spark.network", "org.apache.spark.rpc"]
    levels = [log4j.LogManager.getLogger(name).getLevel() for name in loggers]
    for name in loggers:
        log4j.core.config.Configurator.setLevel(name, log4j.Level.OFF)
    try:
        yield
    finally:
        for name, level in zip(loggers, levels, strict=True):
            log4j.core.config.Configurator.setLevel(name, level)
