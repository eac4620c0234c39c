"""How much arithmetic a run takes, and how long that takes.

A parameter costs a token 2 FLOPs forward, 2 for the gradient of its input where something before it is
trained, and 2 for its own gradient where it is trained itself; the activations that gradient checkpointing
dropped cost the forward's 2 again.  So 6 a trained parameter, 8 with checkpointing, 2 for frozen vision.
"""

from collections.abc import Collection, Mapping

_ORDER = ("vision", "projector", "language")  # as the data goes


def flops_per_parameter(part: str, trained: Collection[str], checkpointing: bool) -> int:
    """FLOPs of a parameter of ``part`` for one of its tokens, forward and backward."""
    reached = _ORDER[: _ORDER.index(part) + 1]
    if not set(reached) & set(trained):
        return 2
    return 4 + 2 * (part in trained) + 2 * checkpointing


def flops(
    multiplied: Mapping[str, int], tokens: Mapping[str, float], trained: Collection[str], checkpointing: bool
) -> float:
    """FLOPs of a run in which each part multiplies ``multiplied`` parameters by ``tokens``.

    Attention's own products, some per cent at these lengths, are not in it.
    """
    return sum(
        flops_per_parameter(part, trained, checkpointing) * multiplied[part] * tokens[part] for part in _ORDER
    )


def hours(work: float, devices: int, flops_per_second: float, mfu: float) -> float:
    """Hours for ``work`` FLOPs on ``devices`` that reach ``mfu`` of ``flops_per_second`` each."""
    return work / (devices * flops_per_second * mfu) / 3600
