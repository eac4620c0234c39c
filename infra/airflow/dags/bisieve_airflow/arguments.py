"""From a run's parameters to the arguments of each program: lists, never a line for a shell."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

Params = Mapping[str, Any]


def score(params: Params) -> list[str]:
    """Of ``jobs/score_rollouts.py``."""
    return [*flags(params["score_options"]), "--index", params["index"], "--input", *params["input"]]


def gate(params: Params) -> list[str]:
    """Of ``bisieve gate``."""
    names = ("max_reject_rate", "max_mixture_drift", "max_score_drift", "max_lost")
    limits = {name: params[name] for name in names}
    return ["gate", *flags({"index": params["index"], "fraction": params["fraction"], **limits})]


def train(params: Params, version: str) -> list[str]:
    """Of ``bisieve train``, on the index of that ``version``."""
    places = {name: params[name] for name in ("index", "image_root", "backbone", "fraction", "workers")}
    made = {"index_version": version, "output": model(params, version)}
    return ["train", *flags({**places, **made, **params["train_options"]})]


def evaluate(params: Params, version: str) -> list[str]:
    """Of ``bisieve evaluate``, of the model that `train` makes."""
    places = {name: params[name] for name in ("benchmark", "image_root")}
    where = {"model": model(params, version), "output": metrics(params, version)}
    return ["evaluate", *flags({**places, **where, **params["evaluate_options"]})]


def promote(params: Params, version: str) -> list[str]:
    """Of ``bisieve promote``, of the same model by what `evaluate` found."""
    return ["promote", *flags({
        "model": model(params, version),
        "metrics": metrics(params, version),
        "pointer": f"{params['models'].rstrip('/')}/current.json",
        "metric": params["metric"],
    })]  # fmt: skip


def model(params: Params, version: str) -> str:
    """Where the model of these parameters and that ``version`` of the index lies.

    A run that would learn the same finds it there, and does nothing.  On how many workers is no matter.
    """
    learned = [params[name] for name in ("image_root", "backbone", "fraction", "train_options")]
    digest = hashlib.sha256(json.dumps(learned, sort_keys=True).encode()).hexdigest()[:8]
    return f"{params['models'].rstrip('/')}/{version}-{digest}"


def metrics(params: Params, version: str) -> str:
    """Where the evaluation of that model lies."""
    return f"{model(params, version)}-metrics"


def flags(options: Mapping[str, Any]) -> list[str]:
    """``{"alpha": 0.1, "restart": False, "field": ["a=b"]}`` as ``--alpha=0.1 --no-restart --field=a=b``."""
    words = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}={one}" for one in (value if isinstance(value, list) else [value])]
    return words
