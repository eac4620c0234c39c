"""Words for what was done to pictures that a user may want to look at."""

from bisieve.wording import counted


def picture_notes(transparent: int, unclear: int) -> list[str]:
    """Return a line for each kind of picture that was met, none where there were none.

    Args:
        transparent: Uses of images that were put on white, one for each time an image was encoded.
        unclear: Rollouts whose placeholders do not tell the place of every image.
    """
    lines = []
    if transparent:
        lines.append(f"put on white: {counted(transparent, 'transparent image')}, counted at every use")
    if unclear:
        found = counted(unclear, "rollout")
        lines.append(f"images put in front: {found} whose image placeholders do not fit the images")
    return lines
