"""Where an output may go: nowhere that it would take something away."""

from bisieve.errors import UsageError
from bisieve.index import Index, indexed_shards
from bisieve.storage import join, real_path


def check_target(index: Index, output: str, is_folder: bool = False) -> None:
    """`UsageError` where a file, or a folder of records, at ``output`` would overwrite what must stay.

    That is the index, the shards that it points into, and a folder of shards, which would be another corpus
    with the records in it.
    """
    if output == "-":
        raise UsageError("a file for --output", "-", "name a file")
    target, home = real_path(output), real_path(index.url)
    if _is_below(target, home):
        raise UsageError(f"an --output outside the index {index.url}", output, "choose another --output")
    for shard in indexed_shards(index):
        place = real_path(shard.url)
        if place == target or (is_folder and _is_below(place, target)):
            raise UsageError(
                "an --output that holds none of the shards of the index",
                f"{shard.url} at {output}", "choose another --output",
            )  # fmt: skip


def _is_below(place: str, folder: str) -> bool:
    return place == folder or place.startswith(join(folder, ""))
