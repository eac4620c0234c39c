"""The parameters of the DAGs, with JSON schemas: Airflow refuses a run with an invalid value."""

from typing import Any

from airflow.sdk import Param

_URL = {"type": "string", "minLength": 1, "pattern": "^[^-]"}  # a leading - would make it an option
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
# More options of a command, by their names in --help, with _ or -. Excluded are those that identify the run,
# which have parameters of their own or follow from them, --dry-run, and --restart, with which a retried
# training would start from scratch.
_OF_THE_RUN = ["index", "index_version", "index-version", "input", "output", "model", "config"]
_OF_THE_RUN += ["restart", "dry_run", "dry-run"]
_OPTIONS = {
    "type": "object",
    "propertyNames": {
        "pattern": "^[a-z][a-z0-9_-]*$",
        "not": {"enum": _OF_THE_RUN},
    },
    "additionalProperties": {
        "type": ["string", "number", "boolean", "array"], "items": {"type": ["string", "number"]}
    },
}  # fmt: skip

_SCHEMAS: dict[str, tuple[str, dict[str, Any]]] = {
    "input": ("shards, folders or globs to score", {"type": "array", "items": _URL, "minItems": 1}),
    "index": ("the ranked index", _URL),
    "image_root": ("where the images of the rollouts and of the benchmark are", _URL),
    "backbone": ("hub id or URL of the model to start from", _URL),
    "benchmark": ("the judged solutions to evaluate on", _URL),
    "models": ("folder of the models, their metrics and current.json, the pointer", _URL),
    "fraction": (
        "share of each source's rollouts to train on, best first",
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    ),
    "workers": (
        "Ray Train workers: 8, or 2-8 for as many of these as there are",
        {"type": ["integer", "string"], "minimum": 1, "pattern": "^[1-9][0-9]*(-[1-9][0-9]*)?$"},
    ),
    "max_reject_rate": ("largest share of records that may be rejected", _SHARE),
    "max_mixture_drift": (
        "how far a source's share of mixed rollouts may move from the last version that passed",
        _SHARE,
    ),
    "max_score_drift": (
        "how far the BIS at which a source's selection ends may move, relative to that version",
        {"type": "number", "minimum": 0},
    ),
    "max_lost": ("largest share of a source's rollouts that may be gone since that version", _SHARE),
    "metric": (
        "what a model is promoted by",
        {"enum": ["overall_f1", "pooled_macro_f1", "auc"], "type": "string"},
    ),
    "score_options": ("more options of bisieve score", _OPTIONS),
    "train_options": ("more options of bisieve train", _OPTIONS),
    "evaluate_options": ("more options of bisieve evaluate", _OPTIONS),
}


def params(**defaults: Any) -> dict[str, Param]:
    """Return the named parameters as Airflow's `Param`, with their defaults, descriptions and schemas."""
    return {
        name: Param(value, description=_SCHEMAS[name][0], **_SCHEMAS[name][1])
        for name, value in defaults.items()
    }
