"""Words for what was done to pictures that a user may want to look at."""

from collections.abc import Mapping

from bisieve.wording import counted

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
        lines.append(f"put on white: {counted(transparent, 'transparent image')}, counted at every use")
    if unclear:
        found = counted(unclear, "rollout")
        lines.append(f"images put in front: {found} whose image placeholders do not fit the images")
    if broken:
        some = "; ".join(f"{name} ({why})" for name, why in sorted(broken.items())[:_NAMED])
        more = "; …" if len(broken) > _NAMED else ""
        lines.append(f"left out: the rollouts of {counted(len(broken), 'broken image')}: {some}{more}")
    return lines
