"""Check the trackers of ``--track`` in the driver, before Ray starts: packages, accounts, servers.

Only a tracker that surely cannot start is refused. The workers of a cluster may have other environment
variables than the driver, so a variable that is not set here may be set there.
"""

import netrc
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from bisieve._redact import without_secrets
from bisieve.cli.extras import distribution_with
from bisieve.errors import TrainingError
from bisieve.io.urls import is_reachable
from ray_train.choices import TRACKERS, chosen_trackers

_DATABASES = ("sqlite", "mysql", "postgresql", "mssql")
_MLFLOW_DEFAULT = "sqlite:///mlflow.db"  # what MLflow 3 uses if no variable is set
_WANDB_DEFAULT = "https://api.wandb.ai"


def check_trackers(track: str) -> None:
    """Raise `TrainingError` if a tracker in ``track`` surely cannot start, and say what to set or install."""
    for name in chosen_trackers(track):
        if find_spec(TRACKERS[name]) is None:
            raise missing_package(name, TRACKERS[name])
        _CHECKS.get(name, _nothing)()


def missing_package(tracker: str, module: str | None) -> TrainingError:
    """Return the error that ``module``, which a tracker imports, is not installed."""
    return TrainingError(
        f"the package of --track {tracker}",
        f"no module {module}",
        f"pip install '{distribution_with(module or tracker, training=True)}' on every machine, "
        "or give another --track",
    )


def _nothing() -> None:
    pass


def _check_mlflow() -> None:
    uri = os.environ.get("MLFLOW_TRACKING_URI") or ("" if _on_cluster() else _MLFLOW_DEFAULT)
    scheme = urlsplit(uri).scheme.split("+")[0]
    if scheme in _DATABASES and find_spec("sqlalchemy") is None:
        raise TrainingError(
            f"all of MLflow for a database as MLFLOW_TRACKING_URI ({without_secrets(uri)})",
            "mlflow-skinny, which reads none",
            "pip install mlflow on every machine, or set MLFLOW_TRACKING_URI to a server",
        )
    if scheme in ("http", "https") and not is_reachable(uri):
        raise TrainingError(
            f"a server that answers at MLFLOW_TRACKING_URI ({without_secrets(uri)})",
            "none",
            "check MLFLOW_TRACKING_URI, or give another --track",
        )


def _check_wandb() -> None:
    if os.environ.get("WANDB_MODE", "online") in ("offline", "disabled", "dryrun") or _on_cluster():
        return
    if not any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")):
        host = urlsplit(os.environ.get("WANDB_BASE_URL", _WANDB_DEFAULT)).hostname or ""
        if not _has_netrc_entry(host):
            raise TrainingError(
                "an account for --track wandb",
                f"neither WANDB_API_KEY nor a login to {host}",
                "set WANDB_API_KEY, or WANDB_MODE=offline, or give another --track",
            )


def _has_netrc_entry(host: str) -> bool:
    file = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    try:
        return netrc.netrc(file).authenticators(host) is not None
    except OSError:
        return False
    except netrc.NetrcParseError:  # wandb has a parser of its own, which may read it
        return True


def _on_cluster() -> bool:
    return "RAY_ADDRESS" in os.environ


_CHECKS: dict[str, Callable[[], None]] = {"mlflow": _check_mlflow, "wandb": _check_wandb}
