"""Memory of one device in training, estimated from sizes alone.

With b bytes a number (2 in bf16, 4 in fp32), P parameters of which T are trained, and W workers:

    parameters    b·P,   and b·P / W under ZeRO 3
    gradients     b·T,   and b·T / W under ZeRO 2 and 3
    optimizer     16·T / W: float32 weights, both moments of AdamW, and the gradient at the update
    buffers       b·min(T, 5e8) for gradients on their way, and under ZeRO 3 b·min(P, 1e9) of gathered layers
    activations   b·tokens·layers·(8h + 7q + 3k + 4i), and with gradient checkpointing
                  b·tokens·(layers·h + 8h + 7q + 3k + 4i)

for hidden size h, query size q, key size k and MLP size i.  The last line is what autograd keeps of a decoder
layer with a gated MLP; vision counts only where it is trained, by 12h + 3i (within a third).  The allocator's
waste and the temporaries of a kernel are not in it.  What is offloaded (optimizer, parameters) is not on it.

At the start every rank loads the whole model, whatever the ZeRO stage and what is offloaded:

    loading       b·P in host memory, and then b·P on the device, before ZeRO splits it
"""

from dataclasses import dataclass
from typing import Any

_BUCKET, _GATHERED = 5e8, 1e9  # DeepSpeed's reduce_bucket_size and stage3_max_live_parameters


@dataclass(frozen=True)
class Layers:
    """A stack of transformer layers."""

    number: int
    hidden: int
    kept: int  # numbers that autograd keeps for a token in one layer


def text_layers(config: Any) -> Layers:
    """The layers of a language model, from its config."""
    heads, hidden = config.num_attention_heads, config.hidden_size
    size = getattr(config, "head_dim", None) or hidden // heads
    query, key = heads * size, config.num_key_value_heads * size
    kept = 8 * hidden + 7 * query + 3 * key + 4 * config.intermediate_size
    return Layers(config.num_hidden_layers, hidden, kept)


def vision_layers(config: Any) -> Layers:
    """The layers of a vision encoder, from its config."""
    number = getattr(config, "depth", None) or config.num_hidden_layers
    return Layers(number, config.hidden_size, 12 * config.hidden_size + 3 * config.intermediate_size)


def activations(layers: Layers, tokens: float, number_bytes: int, checkpointing: bool) -> float:
    """Bytes that autograd keeps of ``tokens`` in ``layers``."""
    kept = layers.number * layers.hidden + layers.kept if checkpointing else layers.number * layers.kept
    return number_bytes * tokens * kept


def loading(total: int, number_bytes: int) -> float:
    """Bytes of the model that each rank loads, first in host memory, then on its device."""
    return float(number_bytes * total)


def states(
    total: int, trained: int, number_bytes: int, zero_stage: int, workers: int, offload: str = "none"
) -> dict[str, float]:
    """Bytes of one device by what they are for, activations aside; ``offload`` is the option's."""
    buffers = min(trained, _BUCKET) + (min(total, _GATHERED) if zero_stage == 3 else 0)
    return {
        "parameters": number_bytes * total / (workers if zero_stage == 3 else 1) * (offload != "parameters"),
        "gradients": number_bytes * trained / (workers if zero_stage >= 2 else 1),
        "optimizer": 16 * trained / workers * (offload == "none"),
        "buffers": number_bytes * buffers,
    }
