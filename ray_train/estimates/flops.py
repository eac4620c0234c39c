"""The floating-point operations that a model needs for what it is trained on: numbers in, a number out.

    forward        2 · weights · tokens  +  4 · width · pairs
    backward       the same again, twice for attention, for the gradient of the inputs
                   2 · trained · tokens for the gradient of the weights

A multiplication and an addition are two operations.  ``pairs`` are the query-key pairs that attention lets
through, half of a square where it is causal.  What is computed twice to save memory, padding, norms,
activation functions, the lookup of embeddings and the two rows of the head do not count.  The gradient of the
first inputs of all, such as pixels, does count though nothing computes it: less than 1 % of a real model.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """What one token costs in a part of the model."""

    weights: int  # elements of the matrices that every token goes through
    trained: int  # of these, those whose gradient is computed
    width: int = 0  # heads × size of a head


@dataclass(frozen=True)
class Load:
    """What goes through a part of the model."""

    tokens: int = 0
    pairs: int = 0  # of a query and a key that it sees, over all layers


def forward_flops(part: Part, load: Load) -> int:
    """Operations of the forward pass of ``part``."""
    return 2 * part.weights * load.tokens + 4 * part.width * load.pairs


def training_flops(parts: list[tuple[Part, Load]], checkpointing: bool = False) -> int:
    """Operations of a forward and a backward pass through ``parts``, in the order of the forward pass.

    A frozen part has a backward pass when something before it is trained; what has one has its forward pass
    twice with ``checkpointing``: then it is what is done, not what is needed.
    """
    total, reached = 0, False  # reached: by the gradient, since something here or before is trained
    for part, load in parts:
        reached = reached or part.trained > 0
        total += forward_flops(part, load)
        if reached:
            total += 2 * part.weights * load.tokens + 8 * part.width * load.pairs
            total += forward_flops(part, load) * checkpointing
        total += 2 * part.trained * load.tokens
    return total


def causal_pairs(length: int, window: int = 0) -> int:
    """Return the pairs of a sequence in which a token sees itself and what is before it.

    With ``window`` no more than so many tokens, itself included.
    """
    reach = min(length, window) if window else length
    return reach * (reach + 1) // 2 + (length - reach) * reach


# Dense bfloat16 with float32 sums, as the makers' data sheets give it; a name's words must all be there.
_PEAKS = {
    "GB300": 2.5e15, "B300": 2.25e15, "GB200": 2.5e15, "B200": 2.25e15,
    "H200": 989e12, "H100 NVL": 835e12, "H100 PCIe": 756e12, "H100": 989e12, "H800": 989e12, "H20": 148e12,
    "A100": 312e12, "A800": 312e12, "A40": 149.7e12, "A30": 165e12, "A10G": 70e12, "A10": 125e12,
    "L40S": 362e12, "L40": 181e12, "L4": 121e12,
    "MI325X": 1307e12, "MI300X": 1307e12, "MI250X": 383e12,
}  # fmt: skip


def hours(work: float, devices: int, flops_per_second: float, mfu: float) -> float:
    """Hours for ``work`` operations on ``devices`` that reach ``mfu`` of ``flops_per_second`` each."""
    return work / (devices * flops_per_second * mfu) / 3600


def peak_flops(device_name: str) -> float:
    """Operations a second of a GPU named as `torch.cuda.get_device_name` does; 0 for an unknown one."""
    words = set(device_name.replace("-", " ").split())
    return next((peak for name, peak in _PEAKS.items() if set(name.split()) <= words), 0.0)
