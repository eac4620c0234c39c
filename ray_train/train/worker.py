"""Build what one worker trains with: its rank, model, engine, loader and seeds."""

import os
import random
import socket
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray.train.torch
import torch
import torch.distributed as dist
import xxhash

from bisieve.errors import BisieveError, TrainingError
from bisieve.index.selection import Selection, read_selection
from ray_train.config import TrainConfig
from ray_train.data.encode import make_encoder
from ray_train.data.image_cache import image_reader
from ray_train.data.labels import Floats, Targets
from ray_train.data.loader import RankLoader
from ray_train.data.packing import make_packer
from ray_train.data.sampler import BatchPlan
from ray_train.data.workers import chosen_workers
from ray_train.distributed.collectives import run_on_all_ranks
from ray_train.estimates.flops import ModelCost, model_cost
from ray_train.model.backbone import Backbone, load_backbone, train_only
from ray_train.model.drop_path import DropPath, add_drop_path
from ray_train.model.lora import add_adapters
from ray_train.model.packed_attention import read_packs
from ray_train.model.precision import resolved_precision, training_dtype
from ray_train.model.prompt_format import PromptFormat, format_of
from ray_train.model.reward import reward_model
from ray_train.model.sources import contents_of, revision_of
from ray_train.tracking.throughput import peak_of
from ray_train.train.deepspeed_engine import make_engine
from ray_train.train.preflight import chosen_index


@dataclass(frozen=True)
class Job:
    """All that the driver tells a worker; plain data."""

    config: TrainConfig
    plan: BatchPlan
    identity: dict[str, Any]  # what makes two runs the same run
    card: dict[str, Any]  # lineage, for the model's card
    weights: Floats  # float64 [rows of the selection], of each rollout
    board: Any  # actor handle for progress lines


@dataclass(frozen=True)
class Outcome:
    """What a worker gives back."""

    error: BisieveError | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)  # images whose rollouts were left out, and why


@dataclass(frozen=True)
class WorkerContext:
    """One of ``world_size`` workers."""

    job: Job
    number: int
    world_size: int
    device: torch.device
    backbone: Backbone  # its model is the engine's
    format: PromptFormat
    selection: Selection
    targets: Targets
    cost: ModelCost
    engine: Any  # DeepSpeed's, around a `RewardModel`
    contents: str  # names what the backbone was loaded from
    drop_path: DropPath | None  # of the vision encoder, if any

    @property
    def data_workers(self) -> int:
        """How many processes prepare what this rank trains on."""
        local_ranks = ray.train.get_context().get_local_world_size()
        return chosen_workers(self.job.config.data_workers, len(os.sched_getaffinity(0)), local_ranks)

    @property
    def worker_identity(self) -> dict[str, Any]:
        """What decides what is learned and only a worker can tell: the rest of the run's identity."""
        return {
            "backbone": self.contents,
            "precision": resolved_precision(self.job.config.precision),
            "max_tiles": self.job.config.max_tiles or self.backbone.family.tiles,
        }

    @property
    def resolved_options(self) -> dict[str, Any]:
        """What options came to that leave a choice open, by name."""
        config, revision = self.job.config, revision_of(self.backbone.folder)
        return self.worker_identity | {
            "backbone": (f"revision {revision}, " if revision else "") + f"contents {self.contents}",
            "workers": self.world_size,
            "data_workers": self.data_workers,
            "peak_flops": config.peak_flops or peak_of(self.device) or "unknown",
        }

    def feed(self) -> RankLoader:
        """The rank's share of every batch; all ranks come here together."""
        config = self.job.config
        encoder = make_encoder(self.backbone, self.format, config.max_length)
        packer = make_packer(self.backbone, encoder, config.pack_tokens) if config.pack_tokens else None
        images = run_on_all_ranks(lambda: image_reader(config.image_root, config.image_cache_gb))
        return RankLoader(
            self.selection, self.job.plan, encoder, packer, images, self.targets,
            config.micro_batch, self.number, self.world_size, self.data_workers,
            skip_broken=config.skip_broken_images > 0,
        )  # fmt: skip

    def log(self, line: str) -> None:
        """Shows ``line`` on the driver's terminal, once for all ranks."""
        if self.number == 0 and self.job.board is not None:
            self.job.board.put.remote(line)


def make_worker_context(job: Job) -> WorkerContext:
    """Loads the model and what it trains on; all ranks come here together, and fail together."""
    config = job.config
    if config.deterministic:
        make_deterministic()
    fix_seeds(config.seed)  # new weights are the same on all ranks
    selection, (backbone, contents) = run_on_all_ranks(lambda: (_cut(job), expected_backbone(job)))
    format = format_of(
        backbone.family, backbone.processor.tokenizer, config.max_tiles, config.system, config.image_backend
    )
    cost = model_cost(backbone)  # before ZeRO takes the weights apart
    drop_path = run_on_all_ranks(lambda: _drop_path(backbone, config))
    model = reward_model(backbone, format, with_kappa=config.objective == "beta-binomial")
    return WorkerContext(
        job, dist.get_rank(), dist.get_world_size(), ray.train.torch.get_device(), backbone, format,
        selection,
        Targets(selection.rows, job.weights, config.objective, config.label_threshold, config.loss_mean),
        cost,
        make_engine(model, config), contents, drop_path,
    )  # fmt: skip


def _drop_path(backbone: Backbone, config: TrainConfig) -> DropPath | None:
    return add_drop_path(backbone, config.drop_path, config.seed) if config.drop_path else None


def _cut(job: Job) -> Selection:
    selection = read_selection(chosen_index(job.config), job.config.fraction)
    if selection.fingerprint != job.plan.selection_fingerprint:
        raise TrainingError("the index of the start of the run", "a newer one", "start the run again")
    return selection


def expected_backbone(job: Job) -> tuple[Backbone, str]:
    """The backbone of the run and the name of its contents.

    `TrainingError` where the driver has looked, too, and has seen others.
    """
    backbone = trainable_backbone(job.config)
    found, expected = contents_of(backbone.folder), job.identity["backbone"]
    if expected not in (found, job.config.backbone):
        raise TrainingError(
            f"at {job.config.backbone} what the command has seen there (contents {expected})",
            f"contents {found} on {socket.gethostname()}",
            "give all machines the same files, then start the run again",
        )
    return backbone, found


def trainable_backbone(config: TrainConfig) -> Backbone:
    """The backbone of ``config``, what is to be trained of it marked as such, with adapters if it has any."""
    backbone = load_backbone(config.backbone, training_dtype(config.precision), config.image_backend)
    train_only(backbone.model, backbone.family, config.trained_parts)
    if config.lora_rank:
        add_adapters(backbone, config)
    if config.pack_tokens:
        read_packs(backbone.model)
    return backbone


def fix_seeds(*key: int) -> None:
    """Seeds Python, numpy and torch, on all devices, from ``key`` alone: equal keys draw equal numbers.

    Keyed by (seed, rank, step) at every step, dropout does not depend on where a run was resumed.
    """
    seed = xxhash.xxh3_64_intdigest(repr(key).encode())
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def make_deterministic() -> None:
    """From now on an operation gives the same bits each time, or an error where it cannot.

    Before the first product on a GPU: cuBLAS reads its setting once.
    """
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
