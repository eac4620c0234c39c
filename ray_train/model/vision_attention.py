"""Attention in a vision encoder whose input concatenates images or windows: a run of patches each.

    patches   a a a a | b b b b | c c | d d d d | e e      runs of 4, 4, 2, 4 and 2 patches
    calls     [a b d]  [c e]                               one for each size of runs

transformers' own path calls attention once per run, and copies the sizes from the device in every layer.
"""

from collections.abc import MutableMapping
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from torch.utils.weak import WeakTensorKeyDictionary

from bisieve.errors import TrainingError

# transformers passes the ends of all runs (cu_seq_lens_q) only to an attention with "flash" in its name.
NAME = "flash_runs"


class Runs(NamedTuple):
    """The runs of one call of the vision encoder, grouped by size."""

    longest: int  # patches of the longest run
    groups: list[tuple[int, int]]  # (number of runs, patches of each), by ascending size
    order: torch.Tensor | None  # int64 [patches]: permutation that sorts patches by group; None for one group
    back: torch.Tensor | None  # int64 [patches]: the inverse of ``order``


# Every layer gets the same tensor of ends, so its sizes are copied from the device only once.
_known: MutableMapping[torch.Tensor, Runs] = WeakTensorKeyDictionary()


def join_runs(model: Any) -> None:
    """Make the vision encoder of ``model`` compute the attention of all runs of one size in one call."""
    transformers: Any = import_module("transformers")
    transformers.AttentionInterface.register(NAME, runs_attention)
    model.set_attn_implementation({"vision_config": NAME})


def runs_of(ends: torch.Tensor) -> Runs:
    """Return the runs that ``ends`` delimit, int ``[runs + 1]`` starting with 0; synchronizes the device."""
    sizes: Any = ends.cpu().long().diff()
    found, numbers = sizes.unique(return_counts=True)
    groups = [(int(number), int(size)) for size, number in zip(found, numbers, strict=True) if size]
    if len(groups) <= 1:
        return Runs(int(sizes.max()), groups, None, None)
    order = sizes.repeat_interleave(sizes).argsort(stable=True)
    return Runs(int(sizes.max()), groups, order.to(ends.device), order.argsort().to(ends.device))


def runs_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    scaling: float,
    cu_seq_lens_q: torch.Tensor,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Return attention within each run.

    Args:
        module: the layer; not used.
        query: ``[1, heads, patches, size]``.
        key: as ``query``.
        value: as ``query``.
        attention_mask: must be None.
        scaling: factor of the scores.
        cu_seq_lens_q: int ``[runs + 1]``, the start of each run and the end of the last one, in patches.
        dropout: of the attention weights.
        others: arguments that only flash attention needs.

    Returns:
        ``[1, patches, heads, size]``, and None instead of attention weights.

    Raises:
        TrainingError: there is a mask, which would be ignored.
    """
    if attention_mask is not None:
        raise TrainingError("a vision encoder without an attention mask", "one", "report this as a bug")
    runs = _known.get(cu_seq_lens_q)
    if runs is None:
        runs = _known[cu_seq_lens_q] = runs_of(cu_seq_lens_q)
    if _has_kernel(query, dropout):
        q, k, v = (each[0].transpose(0, 1).contiguous() for each in (query, key, value))
        ends, longest = cu_seq_lens_q.int(), runs.longest
        # Imported here: it imports torch's compiler, which takes seconds.
        varlen: Any = import_module("torch.nn.attention.varlen")
        found = varlen.varlen_attn(q, k, v, ends, ends, longest, longest, scale=scaling)
        return found[None], None
    return _attend_by_size(query, key, value, runs, scaling, dropout), None


def _has_kernel(query: torch.Tensor, dropout: float) -> bool:
    """Return whether PyTorch's variable-length kernel supports ``query``.

    Its backward pass is not deterministic, so it is not used with deterministic algorithms.
    """
    return (
        query.is_cuda
        and query.dtype in (torch.float16, torch.bfloat16)
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= 256
        and not dropout
        and not torch.are_deterministic_algorithms_enabled()
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )


def _attend_by_size(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, runs: Runs, scaling: float, dropout: float
) -> torch.Tensor:
    patches = [each[0].transpose(0, 1) for each in (query, key, value)]  # [patches, heads, size]
    if runs.order is not None:
        patches = [each.index_select(0, runs.order) for each in patches]
    outputs, start = [], 0
    for number, length in runs.groups:
        part = slice(start, start + number * length)
        q, k, v = (each[part].reshape(number, length, *each.shape[1:]).transpose(1, 2) for each in patches)
        found = functional.scaled_dot_product_attention(q, k, v, scale=scaling, dropout_p=dropout)
        outputs.append(found.transpose(1, 2).flatten(0, 1))
        start += number * length
    output = torch.cat(outputs)
    return (output if runs.back is None else output.index_select(0, runs.back))[None]
