"""Report images that are broken, were transparent, or do not match the placeholders of their question."""

from collections.abc import Mapping

from bisieve._text import pluralize
from bisieve.errors import ImageError
from ray_train.distributed.collectives import from_all_ranks

_NAMED = 5  # broken images that a line names


def picture_notes(transparent: int, unclear: int, broken: Mapping[str, str] | None = None) -> list[str]:
    """Return a line for each kind of image problem that occurred.

    Args:
        transparent: number of times a transparent image was put on white, once per encoding.
        unclear: number of rollouts whose image placeholders do not match their images one to one.
        broken: broken image -> what is wrong with it; its rollouts were left out.
    """
    lines = []
    if transparent:
        lines.append(f"transparent images on a white background: {transparent:,} (counted per use)")
    if unclear:
        found = pluralize(unclear, "rollout")
        lines.append(f"images moved to the front: placeholders of {found} do not match the images")
    if broken:
        some = "; ".join(f"{name} ({why})" for name, why in sorted(broken.items())[:_NAMED])
        more = "; …" if len(broken) > _NAMED else ""
        lines.append(f"left out: the rollouts of {pluralize(len(broken), 'broken image')}: {some}{more}")
    return lines


def newly_broken(found: Mapping[str, str], known: Mapping[str, str], most: int) -> dict[str, str]:
    """Return the broken images of all ranks that are not in ``known``, ordered by name; a collective.

    Args:
        found: broken images of this rank: name -> what is wrong with it.
        known: broken images of the run so far, equal on all ranks.
        most: number of broken images that the run tolerates.

    Raises:
        ImageError: on all ranks, when the run has more than ``most``; names them all.
    """
    everywhere = {name: why for of_rank in from_all_ranks(dict(found)) for name, why in of_rank.items()}
    everywhere = dict(sorted(everywhere.items()))
    fresh = {name: why for name, why in everywhere.items() if name not in known}
    if fresh:
        check_tolerated({**known, **fresh}, most)
    return fresh


def check_tolerated(broken: Mapping[str, str], most: int) -> None:
    """Raise `ImageError`, which names all ``broken`` images, if there are more than ``most``."""
    if len(broken) > most:
        raise ImageError(
            f"at most {pluralize(most, 'broken image')}",
            f"{len(broken):,}: " + "; ".join(f"{name} ({why})" for name, why in broken.items()),
            "write images under these names, or raise --skip-broken-images; then run the same command again",
        )
