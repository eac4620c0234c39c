"""Turn a run's parameters into the arguments of each program: lists of words, never a shell command line."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

Params = Mapping[str, Any]


def score(params: Params) -> list[str]:
    """Return the arguments of ``jobs/score_rollouts.py``."""
    return [*flags(params["score_options"]), "--index", params["index"], "--input", *params["input"]]


def gate(params: Params) -> list[str]:
    """Return the arguments of ``bisieve gate``."""
    names = ("max_reject_rate", "max_mixture_drift", "max_score_drift", "max_lost")
    limits = {name: params[name] for name in names}
    return ["gate", *flags({"index": params["index"], "fraction": params["fraction"], **limits})]


def train(params: Params, version: str) -> list[str]:
    """Return the arguments of ``bisieve train`` on ``version`` of the index."""
    places = {name: params[name] for name in ("index", "image_root", "backbone", "fraction", "workers")}
    made = {"index_version": version, "output": model(params, version)}
    return ["train", *flags({**places, **made, **params["train_options"]})]


def evaluate(params: Params, version: str) -> list[str]:
    """Return the arguments of ``bisieve evaluate`` for the model that `train` writes."""
    places = {name: params[name] for name in ("benchmark", "image_root")}
    where = {"model": model(params, version), "output": metrics(params, version)}
    return ["evaluate", *flags({**places, **where, **params["evaluate_options"]})]


def promote(params: Params, version: str) -> list[str]:
    """Return the arguments of ``bisieve promote`` for that model and the metrics that `evaluate` writes."""
    return ["promote", *flags({
        "model": model(params, version),
        "metrics": metrics(params, version),
        "pointer": f"{params['models'].rstrip('/')}/current.json",
        "metric": params["metric"],
    })]  # fmt: skip


def model(params: Params, version: str) -> str:
    """Return the URL of the model for these parameters and ``version`` of the index.

    The name has a hash of the image root, the backbone, the fraction and the train options, so a run that
    would learn the same finds the model and does nothing. The number of workers does not change it.
    """
    learned = [params[name] for name in ("image_root", "backbone", "fraction", "train_options")]
    digest = hashlib.sha256(json.dumps(learned, sort_keys=True).encode()).hexdigest()[:8]
    return f"{params['models'].rstrip('/')}/{version}-{digest}"


def metrics(params: Params, version: str) -> str:
    """Return the URL of that model's metrics."""
    return f"{model(params, version)}-metrics"


def flags(options: Mapping[str, Any]) -> list[str]:
    """Return options as words on a command line.

    ``{"alpha": 0.1, "restart": False, "field": ["a=b"]}`` becomes ``--alpha=0.1 --no-restart --field=a=b``; a
    list gives one word per item.
    """
    words = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}={one}" for one in (value if isinstance(value, list) else [value])]
    return words
