"""Whose output it is: one folder holds one run, and the run's name says which.

Ray Train silently goes on with whatever has the same name.  So the name comes from all that decides what is
learned, and is written down before anything starts.
"""

import hashlib
import json
from typing import Any

import msgspec

from bisieve.errors import TrainingError
from bisieve.io import storage
from ray_train.checkpoints.state import check_identity
from ray_train.choices import UNIFORM, ineffective_options
from ray_train.config import TrainConfig, plain_options
from ray_train.data.sampler import BatchPlan
from ray_train.model.families import system_and_chat
from ray_train.model.metadata import MODEL, read_card
from ray_train.model.prompt_format import format_fingerprint
from ray_train.model.sources import known_as

RUN = "run.json"
RUNS = "runs"  # Ray Train's storage, below the output

# What may differ when a run is resumed: where things lie, how often something is shown or saved, on what
# machines it runs, and how many rollouts go through the model at once.
_NOT_IDENTITY = {
    "output", "restart", "checkpoint_every", "log_every", "max_failures", "skip_missing_images", "index",
    "index_version", "image_root", "rollout_weights", "track", "peak_flops", "keep_checkpoints",
    "workers", "device", "zero_stage", "gradient_checkpointing", "validate_every", "explode_above",
    "dry_run", "mfu", "storage_budget", "stuck_after", "offload", "data_workers", "image_cache_gb",
    "backbone", "pack_tokens", "micro_batch", "recipe", "device_memory", "check_images", "skip_broken_images",
    "system",  # it is part of the prompt format
}  # fmt: skip

# Younger than the first runs: at their defaults they have no part in the identity, so that older runs go on.
_NEW_OPTIONS = {"loss_mean": "batch", "drop_last": False, "start_at_zero": False, "decayed": "matrices",
                "drop_path": 0.0}  # fmt: skip


def run_identity(
    config: TrainConfig, plan: BatchPlan, index_fingerprint: str, weights: str = UNIFORM
) -> dict[str, Any]:
    """All that decides what is learned; two runs with the same are one.

    ``weights`` names the rollout weights.  Options that have no effect in this run have no part in it.
    `StorageError` where the backbone cannot be read.
    """
    without = _NOT_IDENTITY | ineffective_options(config).keys()
    options = {
        name: value
        for name, value in plain_options(config).items()
        if name not in without and _NEW_OPTIONS.get(name, ...) != value
    }
    return {
        **options, "backbone": known_as(config.backbone), "index": index_fingerprint,
        "cut": plan.selection_fingerprint, "order": plan.fingerprint,
        "prompt_format": format_fingerprint(config.system, *system_and_chat(config.backbone)),
        "weights": weights,
    }  # fmt: skip


def is_finished(config: TrainConfig, identity: dict[str, Any]) -> bool:
    """Whether this very run lies finished at the output, and is not to begin anew."""
    url = storage.join(config.output, RUN)
    if config.restart or not storage.exists(url):
        return False
    found = _read_run(url)
    return found.identity == identity and _is_finished(config.output, found.run)


def claim_output(config: TrainConfig, identity: dict[str, Any]) -> tuple[str, bool]:
    """The name of the run at the output, and whether it is finished; a new run is written down there.

    `TrainingError` when the output holds another run, or a model, unless ``restart`` is set, and when what is
    written down there cannot be read.
    """
    url = storage.join(config.output, RUN)
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    attempt = 1
    if storage.exists(url):
        found = _read_run(url)
        attempt = found.attempt + 1
        ours = found.identity == identity
        if not config.restart and (ours or _has_progress(config.output, found.run)):
            check_identity(found.identity, identity, config.output)
            return found.run, _is_finished(config.output, found.run)
    elif not config.restart and storage.exists(storage.join(config.output, MODEL)):
        raise TrainingError(
            f"a new folder at {config.output}", "a model", "give another --output, or --restart"
        )
    name = f"{digest}-{attempt}"
    record = {
        "run": name, "attempt": attempt, "index": config.index, "backbone": config.backbone,
        "identity": identity,
    }  # fmt: skip
    storage.write_bytes(url, json.dumps(record, indent=2).encode())
    return name, False


class _Run(msgspec.Struct):
    """What run.json says of the run at an output."""

    run: str
    attempt: int
    identity: dict[str, Any]


def _read_run(url: str) -> _Run:
    try:
        return msgspec.json.decode(storage.read_bytes(url), type=_Run)
    except msgspec.DecodeError as error:
        raise TrainingError(
            f"the name of a run at {url}",
            f"a file that is cut off or not bisieve's: {error}",
            "give another --output, or delete this one",
        ) from error


def _has_progress(output: str, run: str) -> bool:
    """Whether there is something to lose: a committed checkpoint."""
    return storage.exists(storage.join(output, RUNS, run, "checkpoint_manager_snapshot.json"))


def _is_finished(output: str, run: str) -> bool:
    card = read_card(output, "--output")
    return card is not None and card["run"] == run
