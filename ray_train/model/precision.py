import torch


def resolved_precision(precision: str) -> str:
    """``"bf16"`` where the hardware has it, or where it is asked for; else ``"fp32"``."""
    if precision != "auto":
        return precision
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "fp32"


def training_dtype(precision: str) -> torch.dtype:
    """That of the forward pass, on this machine."""
    return torch.bfloat16 if resolved_precision(precision) == "bf16" else torch.float32
