"""The number format of the forward pass."""

import torch


def resolved_precision(precision: str) -> str:
    """Return ``precision``, with ``"auto"`` resolved: ``"bf16"`` if the GPU here has it, else ``"fp32"``."""
    if precision != "auto":
        return precision
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "fp32"


def training_dtype(precision: str) -> torch.dtype:
    """Return the dtype of the forward pass on this machine: bfloat16 or float32."""
    return torch.bfloat16 if resolved_precision(precision) == "bf16" else torch.float32
