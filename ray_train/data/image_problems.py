"""Count and report images that are broken, resized or otherwise changed."""

from collections.abc import Mapping

from bisieve._text import pluralize
from bisieve.errors import ImageError
from ray_train.distributed.collectives import from_all_ranks

_NAMED = 5  # broken images


def picture_notes(transparent: int, unclear: int, broken: Mapping[str, str] | None = None) -> list[str]:
    """Return a line for each kind of picture that was met, none where there were none.

    Args:
        transparent: Uses of images that were put on white, one for each time an image was encoded.
        unclear: Rollouts whose placeholders do not tell the place of every image.
        broken: Images whose rollouts were left out, and what is wrong with each.
    """
    lines = []
    if transparent:
        lines.append(f"put on white: {pluralize(transparent, 'transparent image')}, counted at every use")
    if unclear:
        found = pluralize(unclear, "rollout")
        lines.append(f"images put in front: {found} whose image placeholders do not fit the images")
    if broken:
        some = "; ".join(f"{name} ({why})" for name, why in sorted(broken.items())[:_NAMED])
        more = "; …" if len(broken) > _NAMED else ""
        lines.append(f"left out: the rollouts of {pluralize(len(broken), 'broken image')}: {some}{more}")
    return lines


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
            f"at most {pluralize(most, 'broken image')}",
            f"{len(broken)}: " + "; ".join(f"{name} ({why})" for name, why in broken.items()),
            "write images under these names, or raise --skip-broken-images; then run the same command again",
        )
