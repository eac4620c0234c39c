"""Look at the files of a model's weights, before Ray starts: their headers alone are read."""

from bisieve.errors import TrainingError
from ray_train.model.source import WEIGHTS
from ray_train.model.tying import refuse_quantized, stored_tensors


def check_weights(source: str, flag: str) -> None:
    """Raise `TrainingError` unless the model at ``source`` has weights that can be read.

    Args:
        source: a URL; a hub id passes, since only the workers fetch its files.
        flag: the option that named it, for the error.
    """
    if "://" not in source:
        return
    try:
        tensors = stored_tensors(source)
    except ValueError as error:
        raise TrainingError(
            f"weights as {WEIGHTS} at {source}", str(error), f"copy the model again, or check {flag}"
        ) from error
    if not tensors:
        raise TrainingError(
            f"weights as {WEIGHTS} at {source}",
            "none of these, and pickled ones (.bin) are not read",
            f"check {flag}",
        )
    refuse_quantized(tensors, source)
