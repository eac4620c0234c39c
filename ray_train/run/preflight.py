"""What is looked at before any worker starts: the index, its shards, the images."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from bisieve.cut import Cut, read_cut
from bisieve.errors import IndexUnusableError, TrainingError
from bisieve.fetch import fetch_rollouts, unseekable_shards
from bisieve.images import missing_images, refuse_missing
from bisieve.index import Index, check_shards_unchanged
from bisieve.versions import open_version
from ray_train.config import TrainConfig

_CHUNK = 2048  # rollouts fetched at once
_READERS = 8  # chunks fetched at the same time


def chosen_index(config: TrainConfig) -> Index:
    """The version of the index to train on; `IndexUnusableError` where there is no such one."""
    return open_version(config.index, config.index_version or None)


def chosen_cut(config: TrainConfig) -> Cut:
    """The cut to train on.

    `IndexUnusableError` when the index is missing, when its shards have changed, or when they are compressed
    or Parquet: training reads rollouts in random order.
    """
    index = chosen_index(config)
    check_shards_unchanged(index)
    cut = read_cut(index, config.fraction)
    if unseekable := unseekable_shards(cut.rows):
        raise IndexUnusableError(
            "shards that can be read from any place on",
            f"{len(unseekable)} compressed or Parquet ones, such as {unseekable[0]}",
            "bisieve export --format records the cut, then score and train on that",
        )
    return cut


def rows_without_images(cut: Cut, config: TrainConfig) -> tuple[int, ...]:
    """Rows of the cut with an image that is missing below the image root.

    `ImageError` when there are any and ``skip_missing_images`` is off; `TrainingError` when no row is left.
    """
    names = list(_image_names(cut))
    missing = missing_images(config.image_root, {name for row in names for name in row})
    if not config.skip_missing_images:
        mend = "mend --image-root, or leave out their rollouts with --skip-missing-images"
        refuse_missing(config.image_root, missing, mend)
    left_out = tuple(row for row, images in enumerate(names) if not missing.isdisjoint(images))
    if len(left_out) == len(names):
        raise TrainingError(
            f"images below {config.image_root}", "none of the cut's rollouts has one", "mend --image-root"
        )
    return left_out


def _image_names(cut: Cut) -> Iterable[tuple[str, ...]]:
    starts = range(0, cut.rows.num_rows, _CHUNK)
    with ThreadPoolExecutor(_READERS) as readers:
        for chunk in readers.map(
            lambda start: fetch_rollouts(cut.rows.slice(start, _CHUNK), cut.shards), starts
        ):
            yield from (rollout.images for rollout in chunk)
