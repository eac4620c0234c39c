"""Where the curves of a run go: a file for each tracker, chosen with ``--track``."""

from bisieve.errors import UsageError

TRACKERS = ("tensorboard", "mlflow", "wandb")


def chosen_trackers(track: str) -> tuple[str, ...]:
    """The names in ``track``, none for ``"none"``; `UsageError` for an unknown one."""
    if track == "none":
        return ()
    names = tuple(dict.fromkeys(name.strip() for name in track.split(",")))
    for name in names:
        if name not in TRACKERS:
            expected = f"{', '.join(TRACKERS)}, several by comma, or none for --track"
            raise UsageError(expected, repr(name), "give another --track")
    return names
