"""A selection as a folder for the Hugging Face hub, which its viewer and ``datasets`` open.

data/train-00000.parquet, …   rollouts with their images (`parquet_files`)
README.md                     the data set's card (`dataset_card`)
croissant.json                the same for programs (`croissant`); the hub makes one of its own
"""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from bisieve.events import ignored
from bisieve.index.selection import Selection
from bisieve.io.storage import write_bytes
from bisieve.io.urls import basename, canonical, join
from bisieve.tools.formats.croissant import croissant
from bisieve.tools.formats.dataset_card import dataset_card, summary
from bisieve.tools.formats.parquet_files import write_parquet

README, CROISSANT = "README.md", "croissant.json"


def export_hf_dataset(
    selection: Selection, folder: str, image_root: str = "", wrote: Callable[[int], None] = ignored
) -> int:
    """Write the selection as a data set of the Hugging Face hub.

    README.md and croissant.json are written last, when the Parquet files are complete.

    Args:
        selection: The rollouts to write.
        folder: URL of the folder; its last segment is the name of the data set.
        image_root: Where the images are that the records name; not needed for images inside them.
        wrote: Called with the number of rollouts of each part that is written.

    Returns:
        The number of rollouts.

    Raises:
        UsageError: The folder has data files already, or a record names an image and there is no
            ``image_root``.
        ImageError: An image cannot be read.
        IndexUnusableError: A span does not hold the indexed rollout any more.
        StorageError: A shard cannot be read, or ``folder`` cannot be written.
    """
    files = write_parquet(selection, folder, image_root, wrote)
    name, today = basename(canonical(folder)), datetime.now(UTC).date().isoformat()
    described = croissant(name, summary(selection), files, today)
    write_bytes(
        join(folder, CROISSANT), msgspec.json.format(msgspec.json.encode(described), indent=2) + b"\n"
    )
    write_bytes(join(folder, README), dataset_card(name, selection, files).encode())
    return sum(file.rows for file in files)
