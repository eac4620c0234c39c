"""Plan a run before any worker starts: what it trains on, in which batches, and which run it is.

config ──checks──▶ index ──▶ selection ──▶ targets, sizes, held-out rows ──▶ `BatchPlan` ──▶ identity, card
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow.compute as pc

from bisieve.index.reader import Index
from bisieve.index.selection import Selection, selection_identity
from ray_train.checkpoints.run_dir import run_identity
from ray_train.config import TrainConfig
from ray_train.config_io import plain_options
from ray_train.data.labels import Targets, check_some_weight, targets_of, weights_name
from ray_train.data.sampler import BatchPlan, prompts_of, validation_split
from ray_train.data.token_estimate import Size
from ray_train.model.drop_path import check_drop_path
from ray_train.model.metadata import check_model
from ray_train.model.packed_attention import check_reads_packs
from ray_train.training.preflight import (
    chosen_index,
    chosen_selection,
    config_of_workers,
    header_sizes,
    rollout_sizes,
    rows_without_images,
    token_estimate,
)

_RANKED_BY = ("strategy", "alpha", "threshold", "scope", "ties", "all_negative")  # for the model's page


@dataclass(frozen=True)
class PlannedRun:
    """What a run will train on, and how."""

    config: TrainConfig  # names the version of the index, and α
    index: Index
    selection: Selection
    targets: Targets
    sizes: dict[str, Size | None]  # of the images, where the ranks must be balanced
    plan: BatchPlan

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The driver's part of the run's identity; the backbone's files are read for it."""
        weights = weights_name(self.targets.weights, self.config.rollout_weights)
        others = selection_identity(self.selection, self.index)
        return run_identity(self.config, self.plan, self.index.fingerprint, weights, others)

    def card(self, run: str) -> dict[str, Any]:
        """Return the lineage of the run named ``run``, for the model's bisieve.json."""
        config, plan, selection = self.config, self.plan, self.selection
        return {
            "format": 1, "run": run, "index": config.index, "backbone": config.backbone,
            "identity": self.identity,
            "fraction_asked": selection.fraction,
            "fraction_delivered": plan.rows_per_epoch / selection.available,
            "rollouts": plan.rows_per_epoch,
            "sources": len(pc.unique(selection.rows["source"])),
            "ranked_by": {name: getattr(selection.parameters, name) for name in _RANKED_BY},
            "left_out_missing_images": len(plan.left_out), "held_out": len(plan.held_out),
            "config": plain_options(config),
        }  # fmt: skip


def check_backbone(config: TrainConfig) -> None:
    """Check that the backbone is of a known family, which can do what the options ask for.

    Raises:
        TrainingError: It is not, or it cannot.
    """
    family = check_model(config.backbone, "--backbone")
    if config.drop_path:
        check_drop_path(family)
    if config.pack_tokens:
        check_reads_packs(family)


def plan_run(config: TrainConfig) -> PlannedRun:
    """Read the index and the rollouts of the selection, and plan their batches.

    Raises:
        BisieveError: The index, an image or the backbone cannot be used.
    """
    index = chosen_index(config)
    selection = chosen_selection(replace(config, index_version=index.fingerprint))
    config = config_of_workers(config, index, selection)
    targets = targets_of(selection, config)
    rollouts = rollout_sizes(selection)
    left_out = rows_without_images(rollouts, config)
    held_out = validation_split(selection, config.validation_fraction, config.seed, left_out)
    check_some_weight(targets, left_out, held_out)
    sizes = header_sizes(rollouts, config)
    tokens = token_estimate(selection, rollouts, sizes, config)
    plan = BatchPlan(
        selection.fingerprint, selection.rows.num_rows, left_out, config.seed, config.epochs,
        config.global_batch,
        prompts_of(selection), config.prompts_together, held_out, config.drop_last, tokens,
    )  # fmt: skip
    return PlannedRun(config, index, selection, targets, sizes, plan)
