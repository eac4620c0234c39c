"""Tell whether two runs are the same, and claim an output folder for a run, named in its ``run.json``.

One folder holds one run. Ray Train silently resumes any run of the same name. So the name is a hash of the
run's identity (all that decides what is learned) with the number of the attempt, and it is written to
``run.json`` before any worker starts.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import msgspec

from bisieve.errors import TrainingError
from bisieve.io import storage
from bisieve.io.urls import join
from ray_train.choices import UNIFORM, ineffective_options
from ray_train.config import TrainConfig
from ray_train.config_io import plain_options
from ray_train.data.sampler import BatchPlan
from ray_train.model.families import system_and_chat
from ray_train.model.files import known_as
from ray_train.model.metadata import MODEL, read_card
from ray_train.model.prompt_format import format_fingerprint

RUN = "run.json"
RUNS = "runs"  # folder of Ray Train's storage, below the output


def run_identity(
    config: TrainConfig, plan: BatchPlan, index_fingerprint: str, weights: str = UNIFORM,
    ranking: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return all that decides what a run learns; two runs with equal identities are the same run.

    Options that have no effect in this run are left out.

    Args:
        config: Options of the run.
        plan: Gives the fingerprints of the selection and of the order.
        index_fingerprint: Fingerprint of the index version.
        weights: Name of the rollout weights, from `labels.weights_name`.
        ranking: Options of the selection that the index is not ranked by, and the digest of the ids that it
            leaves out, from `selection.selection_identity`.

    Raises:
        StorageError: The backbone cannot be read.
    """
    decisive = {
        item.name
        for item in fields(config)
        if item.metadata["identity"]
        and not (item.metadata["added_later"] and getattr(config, item.name) == item.default)
    }
    decisive -= ineffective_options(config).keys()
    options = {name: value for name, value in plain_options(config).items() if name in decisive}
    return {
        **options, "backbone": known_as(config.backbone), "index": index_fingerprint,
        "selection": plan.selection_fingerprint, "order": plan.fingerprint,
        "prompt_format": format_fingerprint(config.system, *system_and_chat(config.backbone)),
        "weights": weights, **_of_selection(ranking or {}),
    }  # fmt: skip


def _of_selection(ranking: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a ranking by the names that they have in training, which has a seed of its own."""
    return {"selection_seed" if name == "seed" else name: value for name, value in ranking.items()}


def check_identity(saved: Mapping[str, Any], ours: Mapping[str, Any], where: str) -> None:
    """Check that a saved run has the identity of this one.

    Args:
        saved: Identity of the saved run.
        ours: Identity of this run.
        where: Where the saved run is, for the error's text.

    Raises:
        TrainingError: They differ; names the differing options and the ways out.
    """
    differing = [name for name in sorted({*saved, *ours}) if saved.get(name) != ours.get(name)]
    if differing:
        theirs = ", ".join(f"{name} {saved.get(name)!r}" for name in differing)
        asked = ", ".join(f"{name} {ours.get(name)!r}" for name in differing)
        is_other_prompt = "prompt_format" in differing
        named = " (of its prompt_format: --system, none for a run older than that)" if is_other_prompt else ""
        raise TrainingError(
            f"the run at {where} ({theirs})",
            f"another run ({asked})",
            f"use the options of that run{named} to resume it, another --output, or --restart to replace it",
        )


def is_finished(config: TrainConfig, identity: dict[str, Any]) -> bool:
    """Return whether the run with this identity is finished at the output; False with ``config.restart``."""
    url = join(config.output, RUN)
    if config.restart or not storage.exists(url):
        return False
    found = _read_run(url)
    return found.identity == identity and _is_finished(config.output, found.run)


def claim_output(config: TrainConfig, identity: dict[str, Any]) -> tuple[str, bool]:
    """Claim the output for the run with this identity.

    Writes ``run.json`` for a new run. A run of another identity that has no committed checkpoint is replaced
    without asking.

    Returns:
        The name of the run to start or resume, and whether it is finished.

    Raises:
        TrainingError: Without ``config.restart``: the output holds another run with a committed checkpoint,
            or a model without ``run.json``. In any case: ``run.json`` cannot be decoded.
    """
    url = join(config.output, RUN)
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    attempt = 1
    if storage.exists(url):
        found = _read_run(url)
        attempt = found.attempt + 1
        ours = found.identity == identity
        if not config.restart and (ours or _has_progress(config.output, found.run)):
            check_identity(found.identity, identity, config.output)
            return found.run, _is_finished(config.output, found.run)
    elif not config.restart and storage.exists(join(config.output, MODEL)):
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
    """The fields of ``run.json`` that are read again."""

    run: str
    attempt: int
    identity: dict[str, Any]


def _read_run(url: str) -> _Run:
    try:
        return msgspec.json.decode(storage.read_bytes(url), type=_Run)
    except msgspec.DecodeError as error:
        is_json = isinstance(error, msgspec.ValidationError)
        raise TrainingError(
            f"the name of a run at {url}",
            f"something else: {error}" if is_json else "a file that is truncated or not JSON",
            "give another --output, or delete this one",
        ) from error


def _has_progress(output: str, run: str) -> bool:
    """Return whether the run has a committed checkpoint, which would be lost if the run were replaced."""
    return storage.exists(join(output, RUNS, run, "checkpoint_manager_snapshot.json"))


def _is_finished(output: str, run: str) -> bool:
    card = read_card(output, "--output")
    return card is not None and card["run"] == run
