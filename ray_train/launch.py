"""From a config to a trained model: checks first, then Ray Train, which owns workers, failures and storage.

OUTPUT/
  config.json, model.safetensors, tokenizer…, bisieve.json    the model, once it is finished
  run.json                 which run lies here
  runs/NAME/…              its checkpoints, as Ray Train keeps them
  tensorboard/…
"""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from bisieve import storage
from bisieve.cut import Cut
from bisieve.errors import TrainingError
from bisieve.index import open_index
from ray_train.checkpoint import check_identity
from ray_train.cluster import cluster, unwrapped
from ray_train.config import TrainConfig
from ray_train.plan import Plan
from ray_train.preflight import chosen_cut, rows_without_images

RUN = "run.json"

# What may differ when a run is resumed: where things are kept, and how often something is shown or saved.
_NOT_IDENTITY = {
    "output", "restart", "checkpoint_every", "log_every", "max_failures", "skip_missing_images",
    "index", "image_root",
}  # fmt: skip


def train(config: TrainConfig) -> None:
    """Trains as ``config`` says, or goes on with the run at its output; prints what happens.

    Raises a `BisieveError` for all that is the user's to mend; then nothing new is visible as a model.
    """
    cut = chosen_cut(config)
    left_out = rows_without_images(cut, config)
    plan = Plan(cut.fingerprint, cut.rows.num_rows, left_out, config.seed, config.epochs, config.global_batch)
    print(_summary(config, cut, plan), flush=True)
    identity = run_identity(config, plan, open_index(config.index).fingerprint)
    name, finished = claim_output(config, identity)
    if finished:
        print(f"nothing to do: this very run is finished, its model is at {config.output}")
        return
    card = {
        "format": 1, "run": name, "index": config.index, "identity": identity, "fraction_asked": cut.fraction,
        "fraction_delivered": plan.rows_per_epoch / cut.available, "rollouts": plan.rows_per_epoch,
        "left_out_missing_images": len(left_out), "config": asdict(config),
    }  # fmt: skip
    outcome = _fit(config, plan, identity, card, name)
    if outcome.error is not None:
        raise outcome.error
    print(_ending(config, outcome.metrics), flush=True)


def _summary(config: TrainConfig, cut: Cut, plan: Plan) -> str:
    left_out = f", {len(plan.left_out)} left out for missing images" if plan.left_out else ""
    return (
        f"cut: {plan.rows_per_epoch} of {cut.available} rollouts, fraction asked {cut.fraction:g}, "
        f"delivered {plan.rows_per_epoch / cut.available:.4f}{left_out}\n"
        f"run: {plan.total_steps} steps of {config.global_batch} rollouts on {config.workers} workers, "
        f"ZeRO {config.zero_stage}"
    )


def _ending(config: TrainConfig, metrics: dict[str, float]) -> str:
    return (
        f"trained on {metrics['rollouts']:.0f} rollouts, {metrics['steps']:.0f} steps, "
        f"mean loss {metrics['mean_loss']:.4f}; {metrics['shortened']:.0f} rollouts were shortened to fit, "
        f"{metrics['skipped']:.0f} skipped (too long, or a token of the prompt in the text)\n"
        f"model: {config.output}"
    )


def run_identity(config: TrainConfig, plan: Plan, index_fingerprint: str) -> dict[str, Any]:
    """All that decides what is learned, and the shape of the checkpoints; two runs with the same are one."""
    options = {name: value for name, value in asdict(config).items() if name not in _NOT_IDENTITY}
    return {**options, "index": index_fingerprint, "cut": plan.cut_fingerprint, "order": plan.fingerprint}


def claim_output(config: TrainConfig, identity: dict[str, Any]) -> tuple[str, bool]:
    """The name of the run at the output, and whether it is finished; a new run is written down there.

    Ray Train silently goes on with whatever has the same name: so the name comes from the identity, and
    `TrainingError` is raised when the output holds another run, unless ``restart`` is set.
    """
    url = storage.join(config.output, RUN)
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    attempt = 1
    if storage.exists(url):
        found = json.loads(storage.read_bytes(url))
        attempt = found["attempt"] + 1
        if not config.restart:
            check_identity(found["identity"], identity, config.output)
            return found["run"], _is_finished(config.output, found["run"])
    elif not config.restart and storage.exists(storage.join(config.output, "config.json")):
        raise TrainingError(
            f"a new folder at {config.output}", "a model", "give another --output, or --restart"
        )
    name = f"{digest}-{attempt}"
    record = {"run": name, "attempt": attempt, "identity": identity}
    storage.write_bytes(url, json.dumps(record, indent=2).encode())
    return name, False


def _is_finished(output: str, run: str) -> bool:
    from ray_train.publish import read_card

    if not storage.exists(storage.join(output, "config.json")):
        return False
    card = read_card(output)
    return card is not None and card["run"] == run


def _fit(config: TrainConfig, plan: Plan, identity: dict[str, Any], card: dict[str, Any], name: str) -> Any:
    with cluster(config.workers) as ray:
        from ray.train.torch import TorchConfig
        from ray.train.v2.api.config import (
            CheckpointConfig,
            FailureConfig,
            LoggingConfig,
            RunConfig,
            ScalingConfig,
        )
        from ray.train.v2.api.exceptions import TrainingFailedError
        from ray.train.v2.torch.torch_trainer import TorchTrainer

        from ray_train.loop import Job, train_worker
        from ray_train.progress import shown_board

        gpu = ray.cluster_resources().get("GPU", 0) >= config.workers
        with shown_board() as board:
            job = Job(config, plan, identity, card, board)
            trainer = TorchTrainer(
                train_worker,
                train_loop_config={"job": job},
                torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
                scaling_config=ScalingConfig(num_workers=config.workers, use_gpu=gpu),
                run_config=RunConfig(
                    name=name,
                    failure_config=FailureConfig(max_failures=config.max_failures),
                    checkpoint_config=CheckpointConfig(num_to_keep=2),
                    logging_config=LoggingConfig(log_level="ERROR"),
                    **_run_storage(storage.join(config.output, "runs")),
                ),
            )
            try:
                return trainer.fit().return_value
            except TrainingFailedError as error:
                raise unwrapped(error, "the workers to reach the end of the training") from error


def _run_storage(url: str) -> dict[str, Any]:
    import pyarrow.fs
    from fsspec.implementations.local import LocalFileSystem

    fs, path = storage.open_filesystem(url)
    if isinstance(fs, LocalFileSystem):
        return {"storage_path": path}
    # A listing kept from before a write would hide what another worker wrote since.
    fresh = type(fs)(**fs.storage_options, use_listings_cache=False)
    return {
        "storage_path": path,
        "storage_filesystem": pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fresh)),
    }
