"""Plan a run before any worker starts: what it trains on, in which batches, and which run it is.

config ──▶ index version ──▶ selection ──▶ sizes of its rollouts ──▶ rows without images, held-out rows
    ──▶ image sizes ──▶ token estimate ──▶ `BatchPlan` ──▶ identity, card
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bisieve import console
from bisieve.engines import choose_engine
from bisieve.errors import ImageError, IndexUnusableError, TrainingError
from bisieve.events import events_on_stderr, log_format
from bisieve.index.exclusion import read_exclusion
from bisieve.index.reader import Index, check_shards_unchanged, open_index
from bisieve.index.selection import Selection, read_selection, selection_identity
from bisieve.index.versions import open_version
from bisieve.io.images import MOST_PIXELS, missing_images, refuse_missing
from bisieve.pipeline.rank import select_on
from bisieve.records.options import AUTO
from bisieve.shards.fetch import fetch_rollouts, unseekable_shards
from ray_train.checkpoints.run_dir import run_identity
from ray_train.config import TrainConfig
from ray_train.config_io import plain_options
from ray_train.data.labels import Targets, check_some_weight, targets_of, weights_name
from ray_train.data.sampler import BatchPlan, prompts_of, validation_split
from ray_train.data.token_estimate import (
    RolloutSize,
    Size,
    TokenEstimate,
    estimate_tokens,
    image_counter,
    image_sizes,
    kept_sizes,
    measured_bytes_per_token,
    sample_rows,
    size_of,
)
from ray_train.model.drop_path import check_drop_path
from ray_train.model.metadata import check_model
from ray_train.model.packed_attention import check_reads_packs
from ray_train.model.skeleton import load_skeleton_processor

_CHUNK = 2048  # rollouts per fetch
_READERS = 8  # threads, each fetching one chunk at a time
_NAMED = 5  # broken images that an error names
_RANKED_BY = ("strategy", "alpha", "threshold", "scope", "ties", "all_negative")  # for the model's page


@dataclass(frozen=True)
class PlannedRun:
    """What a run will train on, and how."""

    config: TrainConfig  # names the version of the index, and α
    index: Index
    selection: Selection
    targets: Targets
    sizes: dict[str, Size | None]  # of the images, by name; empty where no ranks have to be balanced
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


def chosen_index(config: TrainConfig) -> Index:
    """Open the version of the index to train on: ``config.index_version``, or else the current one.

    Raises:
        IndexUnusableError: There is no index, or not exactly one version whose fingerprint begins so.
    """
    index = open_index(config.index)
    if config.index_version in ("", index.fingerprint):  # as in most workers: no list of versions is read
        return index
    return open_version(config.index, config.index_version)


def chosen_selection(config: TrainConfig) -> Selection:
    """Read the selection to train on from the index, which is ranked first if other options are asked for.

    Raises:
        UsageError: α cannot be chosen automatically, or an option has no effect with the strategy.
        IndexUnusableError: There is no such index version, its shards have changed since it was written, or
            the selection has rollouts in compressed or Parquet shards. Training reads rollouts in random
            order, which these shards do not allow.
    """
    index = chosen_index(config)
    check_shards_unchanged(index)
    is_as_ranked = not (config.ranking or config.exclude)
    selection = read_selection(index, config.fraction) if is_as_ranked else _ranked_again(index, config)
    if unseekable := unseekable_shards(selection.rows):
        raise IndexUnusableError(
            "shards that can be read from any place on",
            f"{len(unseekable):,} compressed or Parquet ones, such as {unseekable[0]}",
            "bisieve export --format records the selection, then score and train on that",
        )
    return selection


def _ranked_again(index: Index, config: TrainConfig) -> Selection:
    with events_on_stderr(log_format(None)) as emit:
        exclusion = read_exclusion(index, config.exclude)
        engine = choose_engine(emit=emit)
        return select_on(engine, index, config.fraction, config.ranking, emit, exclusion)


def config_of_workers(config: TrainConfig, index: Index, selection: Selection) -> TrainConfig:
    """Return the config with which each worker finds the driver's ``selection`` from ``index``.

    It names this very version of the index, as another one may be published before a worker starts, and the α
    that was found for ``--alpha auto``. A file of excluded rollouts is named only if it excludes any.
    """
    alpha = str(selection.parameters.alpha) if config.alpha == AUTO else config.alpha
    exclude = config.exclude if selection.left_out.rollouts else ""
    return replace(config, index_version=index.fingerprint, alpha=alpha, exclude=exclude)


def rollout_sizes(selection: Selection) -> list[RolloutSize]:
    """Read every rollout of the selection once; return the names of its images and the length of its text.

    Returns:
        One entry per row of the selection, in its order.
    """
    starts = range(0, selection.rows.num_rows, _CHUNK)
    with ThreadPoolExecutor(_READERS) as readers:
        chunks = readers.map(
            lambda start: fetch_rollouts(selection.rows.slice(start, _CHUNK), selection.shards), starts
        )
        return [size_of(rollout) for chunk in chunks for rollout in chunk]


def rows_without_images(rollouts: Sequence[RolloutSize], config: TrainConfig) -> tuple[int, ...]:
    """Return the rows of the selection that have an image missing below the image root.

    Args:
        rollouts: One entry per row of the selection.
        config: Gives ``image_root`` and ``skip_missing_images``.

    Raises:
        ImageError: Images are missing and ``skip_missing_images`` is off.
        TrainingError: Every row has a missing image.
    """
    names = [rollout.images for rollout in rollouts]
    missing = missing_images(config.image_root, {name for row in names for name in row})
    if not config.skip_missing_images:
        hint = "correct --image-root, or leave out their rollouts with --skip-missing-images"
        refuse_missing(config.image_root, missing, hint)
    left_out = tuple(row for row, images in enumerate(names) if not missing.isdisjoint(images))
    if len(left_out) == len(names):
        raise TrainingError(
            f"images below {config.image_root}",
            "none of the selection's rollouts has one",
            "correct --image-root",
        )
    return left_out


def header_sizes(rollouts: Sequence[RolloutSize], config: TrainConfig) -> dict[str, Size | None]:
    """Read the sizes of the images of ``rollouts`` from the images' headers.

    The sizes serve to balance the ranks, so one worker without ``check_images`` needs none and gets an empty
    dict. Sizes that an earlier start of the run stored at the output are reused; with ``check_images`` all
    headers are read again. Prints how many headers are read.

    Returns:
        Size by image name; None for an image without a readable header.

    Raises:
        ImageError: With ``check_images``, more images are broken than ``skip_broken_images`` tolerates.
    """
    if config.workers.most == 1 and not config.check_images:
        return {}
    names = {name for rollout in rollouts for name in rollout.images}
    kept = {} if config.check_images else kept_sizes(config.output, config.image_root)
    if unread := len(names - kept.keys()):
        console.phase(f"images: reading the headers of {unread:,}")
    sizes = image_sizes(config.image_root, names, kept)
    if config.check_images:
        _refuse_broken(config, sizes)
    return sizes


def _refuse_broken(config: TrainConfig, sizes: Mapping[str, Size | None]) -> None:
    """Check that at most ``config.skip_broken_images`` images are broken, as far as their headers tell.

    An image counts as broken if it exists but its header is unreadable or has more than `MOST_PIXELS` pixels.
    Missing images do not count here: see `rows_without_images`.

    Raises:
        ImageError: More images are broken; the error names the first ones.
    """
    suspect = [name for name, size in sizes.items() if size is None or size[0] * size[1] > MOST_PIXELS]
    broken = sorted(set(suspect) - missing_images(config.image_root, suspect))
    if len(broken) > config.skip_broken_images:
        more = " …" if len(broken) > _NAMED else ""
        tolerated = f", all but {config.skip_broken_images}" if config.skip_broken_images else ""
        raise ImageError(
            f"images with a readable header of at most {MOST_PIXELS:,} pixels below {config.image_root}"
            f"{tolerated}",
            f"{len(broken):,} of {len(sizes):,} without: {', '.join(broken[:_NAMED])}{more}",
            "write images under these names, or leave out their rollouts with "
            f"--skip-broken-images {len(broken)}",
        )


def token_estimate(
    selection: Selection,
    rollouts: Sequence[RolloutSize],
    sizes: Mapping[str, Size | None],
    config: TrainConfig,
) -> TokenEstimate | None:
    """Estimate the tokens of every rollout of the selection, by which the ranks are balanced.

    Reads a sample of the rollouts, and the backbone's tokenizer and image processor but none of its weights.

    Args:
        selection: The rows that are trained on.
        rollouts: One entry per row of the selection.
        sizes: Size by image name, from `header_sizes`.
        config: Options of the run.

    Returns:
        None for a run that can have only one worker.

    Raises:
        TrainingError: The backbone has no tokenizer or image processor.
    """
    if config.workers.most == 1:
        return None
    family, processor = load_skeleton_processor(config.backbone, config.image_backend)
    sample = fetch_rollouts(
        selection.rows.take(pa.array(sample_rows(len(rollouts)), pa.int64())), selection.shards
    )
    texts = ["\n".join([rollout.question, *rollout.steps]) for rollout in sample]
    counter = image_counter(processor, family.image_options, config.max_tiles or family.tiles)
    ratio = measured_bytes_per_token(processor.tokenizer, texts)
    packed = bool(config.pack_tokens)
    return estimate_tokens(rollouts, sizes, counter, ratio, config.max_length, packed)
