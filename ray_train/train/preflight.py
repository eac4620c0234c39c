"""What is looked at before any worker starts: the index, its shards, the images."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from bisieve.errors import ImageError, IndexUnusableError, TrainingError
from bisieve.index.reader import Index, check_shards_unchanged
from bisieve.index.selection import Selection, read_selection
from bisieve.index.versions import open_version
from bisieve.io.images import MOST_PIXELS, missing_images, refuse_missing
from bisieve.shards.fetch import fetch_rollouts, unseekable_shards
from ray_train.config import TrainConfig
from ray_train.data.image_sizes import Size, image_sizes, kept_sizes
from ray_train.data.token_estimate import (
    RolloutSize,
    TokenEstimate,
    estimate_tokens,
    image_counter,
    measured_bytes_per_token,
    sample_rows,
    size_of,
)
from ray_train.model.skeleton import load_skeleton_processor

_CHUNK = 2048  # rollouts fetched at once
_READERS = 8  # chunks fetched at the same time
_NAMED = 5  # broken images that an error names


def chosen_index(config: TrainConfig) -> Index:
    """The version of the index to train on; `IndexUnusableError` where there is no such one."""
    return open_version(config.index, config.index_version or None)


def chosen_selection(config: TrainConfig) -> Selection:
    """The selection to train on.

    `IndexUnusableError` when the index is missing, when its shards have changed, or when they are compressed
    or Parquet: training reads rollouts in random order.
    """
    index = chosen_index(config)
    check_shards_unchanged(index)
    selection = read_selection(index, config.fraction)
    if unseekable := unseekable_shards(selection.rows):
        raise IndexUnusableError(
            "shards that can be read from any place on",
            f"{len(unseekable)} compressed or Parquet ones, such as {unseekable[0]}",
            "bisieve export --format records the selection, then score and train on that",
        )
    return selection


def rollout_sizes(selection: Selection) -> list[RolloutSize]:
    """Read every rollout of the selection once; return its images' names and its text's length."""
    starts = range(0, selection.rows.num_rows, _CHUNK)
    with ThreadPoolExecutor(_READERS) as readers:
        chunks = readers.map(
            lambda start: fetch_rollouts(selection.rows.slice(start, _CHUNK), selection.shards), starts
        )
        return [size_of(rollout) for chunk in chunks for rollout in chunk]


def rows_without_images(rollouts: Sequence[RolloutSize], config: TrainConfig) -> tuple[int, ...]:
    """Rows of the selection with an image that is missing below the image root.

    `ImageError` when there are any and ``skip_missing_images`` is off; `TrainingError` when no row is left.
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
    """Return the sizes of the images of ``rollouts`` from their headers, None for one without a readable one.

    They are read where ranks are to be balanced by them, which one alone need not be, or where the images are
    to be checked: else there are none.  Those that an earlier start kept are read again only for a check.

    Raises:
        ImageError: with ``check_images``, for more broken headers than ``skip_broken_images`` tolerates.
    """
    if config.workers.most == 1 and not config.check_images:
        return {}
    names = {name for rollout in rollouts for name in rollout.images}
    kept = {} if config.check_images else kept_sizes(config.output, config.image_root)
    if unread := len(names - kept.keys()):
        print(f"images: reading the headers of {unread}", flush=True)
    sizes = image_sizes(config.image_root, names, kept)
    if config.check_images:
        refuse_broken(config, sizes)
    return sizes


def refuse_broken(config: TrainConfig, sizes: Mapping[str, Size | None]) -> None:
    """Raise `ImageError` for more broken images than the run tolerates, as far as their headers tell.

    Broken are images that are there and have no readable header, or one of more than `MOST_PIXELS`.
    """
    suspect = [name for name, size in sizes.items() if size is None or size[0] * size[1] > MOST_PIXELS]
    broken = sorted(set(suspect) - missing_images(config.image_root, suspect))
    if len(broken) > config.skip_broken_images:
        more = " …" if len(broken) > _NAMED else ""
        tolerated = f", all but {config.skip_broken_images}" if config.skip_broken_images else ""
        raise ImageError(
            f"images with a readable header of at most {MOST_PIXELS} pixels below {config.image_root}"
            f"{tolerated}",
            f"{len(broken)} of {len(sizes)} without: {', '.join(broken[:_NAMED])}{more}",
            "write images under these names, or leave out their rollouts with "
            f"--skip-broken-images {len(broken)}",
        )


def token_estimate(
    selection: Selection,
    rollouts: Sequence[RolloutSize],
    sizes: Mapping[str, Size | None],
    config: TrainConfig,
) -> TokenEstimate | None:
    """Return the estimated tokens of the selection's rollouts, whose images have ``sizes``; None for one
    worker.

    `TrainingError` where the backbone has no tokenizer or image processor.
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
