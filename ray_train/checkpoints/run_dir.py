"""The output folder of a run: which run it has, and the selection that the workers read.

    OUTPUT/run.json               the name and the identity of the run
           selection.parquet      the selected rows, `schemas.INDEX`; in its metadata the fingerprint, and
                                  what was left out

One folder holds one run. Ray Train silently resumes any run of the same name. So the name is a hash of the
run's identity (all that decides what is learned) with the number of the attempt, and it is written to
``run.json`` before any worker starts.

A selection by the options of its index that leaves out nothing is read from the index, and is not stored.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from bisieve import schemas
from bisieve.errors import TrainingError
from bisieve.index.exclusion import LeftOut
from bisieve.index.reader import Index
from bisieve.index.selection import (
    Selection,
    asked_parameters,
    is_as_ranked,
    read_selection,
    selection_of_rows,
)
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
from ray_train.registry.files import RUN

RUNS = "runs"  # folder of Ray Train's storage, below the output
_STORED = "selection.parquet"
_FINGERPRINT, _LEFT_OUT = b"selection", b"left_out"


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
    return found.identity == identity and _has_model_of(config.output, found.run)


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
            return found.run, _has_model_of(config.output, found.run)
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
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        is_json = isinstance(error, msgspec.ValidationError)
        raise TrainingError(
            f"the name of a run at {url}",
            f"something else: {error}" if is_json else "a file that is truncated or not JSON",
            "give another --output, or delete this one",
        ) from error


def _has_progress(output: str, run: str) -> bool:
    """Return whether the run has a committed checkpoint, which would be lost if the run were replaced."""
    return storage.exists(join(output, RUNS, run, "checkpoint_manager_snapshot.json"))


def _has_model_of(output: str, run: str) -> bool:
    card = read_card(output, "--output")
    return card is not None and card["run"] == run


def store_selection(config: TrainConfig, index: Index, selection: Selection) -> None:
    """Write the selection into the run's folder, unless workers read it from the index.

    Args:
        config: Of the run, with α as a number.
        index: The version that is trained on.
        selection: What the driver has selected.

    Raises:
        StorageError: The file cannot be written.
    """
    if _is_in_index(config, index):
        return
    left_out = msgspec.json.encode(selection.left_out)
    rows = selection.rows.replace_schema_metadata(
        {_FINGERPRINT: selection.fingerprint.encode(), _LEFT_OUT: left_out}
    )
    file = io.BytesIO()
    pq.write_table(rows, file, compression="zstd")
    storage.write_bytes(join(config.output, _STORED), file.getvalue())


def driver_selection(config: TrainConfig, index: Index, fingerprint: str) -> Selection:
    """Return the selection that the driver has made, in a worker.

    Args:
        config: Of the run, with α as a number.
        index: The version that is trained on.
        fingerprint: Of the driver's selection.

    Raises:
        TrainingError: It is not the one that the run was started with, or its file is damaged.
        StorageError: Its file cannot be read.
    """
    if _is_in_index(config, index):
        selection = read_selection(index, config.fraction)
        found = selection.fingerprint
    else:
        rows, found, left_out = _read_selection(join(config.output, _STORED))
        parameters = asked_parameters(index, config.ranking)
        selection = selection_of_rows(index, rows, config.fraction, parameters, left_out=left_out)
    if not fingerprint == found == selection.fingerprint:
        raise TrainingError(
            "the selection that the run was started with", "another selection", "start the run again"
        )
    return selection


def _is_in_index(config: TrainConfig, index: Index) -> bool:
    return is_as_ranked(index, config.ranking) and not config.exclude


def _read_selection(url: str) -> tuple[pa.Table, str, LeftOut]:
    """Return the rows of the file, and the fingerprint and what was left out in its metadata."""
    data = pa.BufferReader(storage.read_bytes(url))
    try:
        table = pq.read_table(data, pre_buffer=False, use_threads=False)
        metadata = table.schema.metadata or {}
        found = metadata[_FINGERPRINT].decode()
        left_out = msgspec.json.decode(metadata.get(_LEFT_OUT, b"{}"), type=LeftOut)
        rows = table.replace_schema_metadata(None).select(schemas.INDEX.names).cast(schemas.INDEX)
        return rows, found, left_out
    except (pa.ArrowException, KeyError, msgspec.DecodeError) as error:
        raise TrainingError(
            f"the selection of the run at {url}", "a damaged file", "start the run again"
        ) from error
