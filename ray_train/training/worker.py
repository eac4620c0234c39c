"""Build what one worker trains with: model, DeepSpeed engine, loader and seeds.

`Job` (from the driver) ──make_worker_context──▶ `WorkerContext` ──`loop`──▶ `Outcome` (to the driver)
"""

import os
import random
import socket
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import xxhash

from bisieve._text import pluralize
from bisieve.errors import BisieveError, TrainingError
from bisieve.index.selection import Selection
from ray_train.checkpoints.run_dir import driver_selection
from ray_train.config import TrainConfig
from ray_train.data.encode import make_encoder
from ray_train.data.images import image_reader
from ray_train.data.labels import Floats, Targets
from ray_train.data.loader import RankLoader
from ray_train.data.packing import PromptMemory, make_packer
from ray_train.data.sampler import BatchPlan
from ray_train.data.workers import chosen_workers
from ray_train.distributed.collectives import run_on_all_ranks
from ray_train.estimates.flops import ModelCost, model_cost, peak_of
from ray_train.model.backbone import Backbone, load_backbone, resolved_precision, train_only, training_dtype
from ray_train.model.drop_path import DropPath, add_drop_path
from ray_train.model.files import contents_of, revision_of
from ray_train.model.lora import add_adapters
from ray_train.model.packed_attention import read_packs
from ray_train.model.prompt_format import PromptFormat, format_of
from ray_train.model.reward import reward_model
from ray_train.training.optimizer import make_engine
from ray_train.training.plan import chosen_index


@dataclass(frozen=True)
class Job:
    """Everything that the driver sends to a worker; picklable."""

    config: TrainConfig
    plan: BatchPlan
    identity: dict[str, Any]  # the driver's part of the run's identity: two runs with equal ones are one run
    card: dict[str, Any]  # lineage, for the model's bisieve.json
    weights: Floats  # loss weight of each rollout, float64 [rows of the selection]
    board: Any  # handle of the `heartbeat.Board` actor


@dataclass(frozen=True)
class Outcome:
    """Result of a worker: the error that ended it, or the final metrics of the run."""

    error: BisieveError | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)  # images whose rollouts were left out, and why


@dataclass(frozen=True)
class WorkerContext:
    """What one of ``world_size`` workers trains with."""

    job: Job
    number: int  # rank of this worker, from 0
    world_size: int
    device: torch.device
    backbone: Backbone  # its model is inside the engine
    format: PromptFormat
    selection: Selection
    targets: Targets
    cost: ModelCost
    engine: Any  # DeepSpeed's engine around a `RewardModel`
    contents: str  # fingerprint of the files that the backbone was loaded from
    drop_path: DropPath | None  # of the vision encoder; None without drop path
    local_ranks: int  # ranks on this machine
    memory: PromptMemory | None = None  # of earlier runs of this process

    @property
    def data_workers(self) -> int:
        """Number of processes that prepare images and text for this rank."""
        return chosen_workers(self.job.config.data_workers, len(os.sched_getaffinity(0)), self.local_ranks)

    @property
    def worker_identity(self) -> dict[str, Any]:
        """The part of the run's identity that only a worker knows, such as the contents of a hub model."""
        return {
            "backbone": self.contents,
            "precision": resolved_precision(self.job.config.precision),
            "max_tiles": self.job.config.max_tiles or self.backbone.family.tiles,
        }

    @property
    def resolved_options(self) -> dict[str, Any]:
        """Resolved values of options that default to 'auto' or depend on the machine, by name."""
        config, revision = self.job.config, revision_of(self.backbone.folder)
        return self.worker_identity | {
            "backbone": (f"revision {revision}, " if revision else "") + f"contents {self.contents}",
            "workers": self.world_size,
            "data_workers": self.data_workers,
            "peak_flops": config.peak_flops or peak_of(self.device) or "unknown",
        }

    def loader(self) -> RankLoader:
        """Return the loader of this rank's share of every batch; all ranks must call this together.

        Raises:
            TrainingError: A rank cannot make its image cache; raised on all ranks.
        """
        config = self.job.config
        encoder = make_encoder(self.backbone, self.format, config.max_length)
        packer = make_packer(self.backbone, encoder, config.pack_tokens) if config.pack_tokens else None
        images = run_on_all_ranks(lambda: image_reader(config.image_root, config.image_cache_gb))
        return RankLoader(
            self.selection, self.job.plan, encoder, packer, images, self.targets,
            config.micro_batch, self.number, self.world_size, self.data_workers,
            skip_broken=config.skip_broken_images > 0, memory=self.memory,
        )  # fmt: skip

    def log(self, line: str) -> None:
        """Print ``line`` on the driver's terminal, from rank 0 only."""
        if self.number == 0 and self.job.board is not None:
            self.job.board.put_status.remote(line)


def make_worker_context(job: Job, device: torch.device, local_ranks: int) -> WorkerContext:
    """Load the model and the selection; all ranks must call this together.

    Side effects: seeds the random generators, and with ``deterministic`` changes settings of torch.

    Args:
        job: What the driver sends.
        device: The device of this rank.
        local_ranks: Number of ranks on this machine.

    Raises:
        BisieveError: The index, the backbone or an option cannot be used on some rank; raised on all ranks.
    """
    config = job.config
    if config.deterministic:
        make_deterministic()
    fix_seeds(config.seed)  # so that newly made weights are the same on all ranks
    _show_phase(job, f"loading the backbone on {pluralize(dist.get_world_size(), 'worker')}")
    selection, (backbone, contents) = run_on_all_ranks(lambda: (selection_of(job), expected_backbone(job)))
    format = format_of(
        backbone.family, backbone.processor.tokenizer, config.max_tiles, config.system, config.image_backend
    )
    cost = model_cost(backbone)  # before ZeRO partitions the weights
    drop_path = run_on_all_ranks(lambda: _drop_path(backbone, config))
    model = reward_model(backbone, format, with_kappa=config.objective == "beta-binomial")
    _show_phase(job, f"preparing DeepSpeed, ZeRO {config.zero_stage}")
    return WorkerContext(
        job, dist.get_rank(), dist.get_world_size(), device, backbone, format,
        selection,
        Targets(selection.rows, job.weights, config.objective, config.label_threshold, config.loss_mean),
        cost,
        make_engine(model, config), contents, drop_path, local_ranks,
    )  # fmt: skip


def _show_phase(job: Job, line: str) -> None:
    """Print on the driver's terminal what begins, from rank 0 only."""
    if dist.get_rank() == 0 and job.board is not None:
        job.board.put_phase.remote(line)


def _drop_path(backbone: Backbone, config: TrainConfig) -> DropPath | None:
    return add_drop_path(backbone, config.drop_path, config.seed) if config.drop_path else None


def selection_of(job: Job) -> Selection:
    """Return the selection of the run, as the driver has made it.

    Raises:
        TrainingError: It is not the one that the run was started with, or its file is damaged.
    """
    index = chosen_index(job.config)
    return driver_selection(job.config, index, job.plan.selection_fingerprint)


def expected_backbone(job: Job) -> tuple[Backbone, str]:
    """Load the backbone of the run; return it with the fingerprint of its files.

    Raises:
        TrainingError: The driver has read the backbone at the same URL and found other contents. For a hub
            id the driver does not read the weights, so nothing is compared.
    """
    backbone = trainable_backbone(job.config)
    found, expected = contents_of(backbone.folder), job.identity["backbone"]
    if expected not in (found, job.config.backbone):
        raise TrainingError(
            f"the model files that the driver read at {job.config.backbone} (contents {expected})",
            f"contents {found} on {socket.gethostname()}",
            "give all machines the same files, then start the run again",
        )
    return backbone, found


def trainable_backbone(config: TrainConfig) -> Backbone:
    """Load the backbone of ``config`` and prepare it for training.

    Only the parts in ``config.trained_parts`` require gradients. LoRA adapters are added with ``lora_rank``,
    and attention over packed sequences with ``pack_tokens``.
    """
    backbone = load_backbone(config.backbone, training_dtype(config.precision), config.image_backend)
    train_only(backbone.model, backbone.family, config.trained_parts)
    if config.lora_rank:
        add_adapters(backbone, config)
    if config.pack_tokens:
        read_packs(backbone.model)
    return backbone


def fix_seeds(*key: int) -> None:
    """Seed the generators of Python, numpy and torch, on all devices, from ``key`` alone.

    The training loop calls this with (seed, rank, step) before every step, so that dropout does not depend on
    the step at which a run was resumed.
    """
    seed = xxhash.xxh3_64_intdigest(repr(key).encode())
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def make_deterministic() -> None:
    """Make torch use deterministic operations only; one that has no deterministic version raises an error.

    Must be called before the first matrix product on a GPU, since cuBLAS reads its setting only once.
    """
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
