"""Fixed seeds of every random stream, and a mode in which equal runs end with equal bits."""

import os
import random

import numpy as np
import torch
import xxhash


def fix_seeds(*key: int) -> None:
    """Seeds Python, numpy and torch, on all devices, from ``key`` alone: equal keys draw equal numbers.

    Keyed by (seed, rank, step) at every step, dropout does not depend on where a run was resumed.
    """
    seed = xxhash.xxh3_64_intdigest(repr(key).encode())
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def make_deterministic() -> None:
    """From now on an operation gives the same bits each time, or an error where it cannot.

    Before the first product on a GPU: cuBLAS reads its setting once.
    """
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
