"""The broken images that a run tolerates, counted over all ranks."""

from collections.abc import Mapping

from bisieve.errors import ImageError
from bisieve.wording import counted
from ray_train.run.agreement import from_all_ranks


def newly_broken(found: Mapping[str, str], known: Mapping[str, str], most: int) -> dict[str, str]:
    """Return the broken images of all ranks that are not ``known``, by name; all ranks come here together.

    Args:
        found: what this rank has found: name of the image -> what is wrong with it.
        known: those of the run so far.
        most: how many the run tolerates.

    Raises:
        ImageError: on all ranks, for more than ``most`` with the ``known`` ones; names them all.
    """
    everywhere = {name: why for of_rank in from_all_ranks(dict(found)) for name, why in of_rank.items()}
    everywhere = dict(sorted(everywhere.items()))
    fresh = {name: why for name, why in everywhere.items() if name not in known}
    if fresh:
        check_tolerated({**known, **fresh}, most)
    return fresh


def check_tolerated(broken: Mapping[str, str], most: int) -> None:
    """Raise `ImageError` that names all ``broken`` images where they are more than ``most``."""
    if len(broken) > most:
        raise ImageError(
            f"at most {counted(most, 'broken image')}",
            f"{len(broken)}: " + "; ".join(f"{name} ({why})" for name, why in broken.items()),
            "write images under these names, or raise --skip-broken-images; then run the same command again",
        )
