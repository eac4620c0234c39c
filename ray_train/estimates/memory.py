"""Estimate the memory that training needs on a device, and choose the ZeRO stage that fits.

    model, config ──`peak_bytes`──▶ bytes needed ──┐
                                                   ├──`resolve_zero_stage`──▶ config with a stage, or an error
    config, cluster ──`device_memory`──▶ bytes ────┘

With b bytes per number (2 in bf16, 4 in fp32), P parameters of which T are trained, and W workers, the bytes
of a device are:

    parameters    b·P,   and b·P / W under ZeRO 3
    gradients     b·T,   and b·T / W under ZeRO 2 and 3
    optimizer     16·T / W: float32 weights, both moments of AdamW, and the gradient at the update
    buffers       b·min(T, 5e8) for gradients in transit, and under ZeRO 3 b·min(P, 1e9) for gathered layers
    activations   b·tokens·layers·(8h + 7q + 3k + 4i), and with gradient checkpointing
                  b·tokens·(layers·h + 8h + 7q + 3k + 4i)

for hidden size h, query size q, key size k and MLP size i. The activations are what autograd keeps of a
decoder layer with a gated MLP. The vision encoder counts only if it is trained, with 12h + 3i (within a
third). Not counted: fragmentation of the allocator and temporaries of kernels. Offloaded states (optimizer,
parameters) are not on the device.

At the start every rank loads the whole model, with any ZeRO stage and any offloading:

    loading       b·P in host memory, and then b·P on the device, before ZeRO partitions it
"""

from dataclasses import dataclass, replace
from typing import Any

from bisieve.errors import TrainingError
from ray_train.config import TrainConfig
from ray_train.estimates.device_memory import Nodes, device_memory
from ray_train.model.backbone import Backbone, training_dtype
from ray_train.model.lora import add_adapters
from ray_train.model.skeleton import load_skeleton, parameters, trained_parameters

_BUCKET, _GATHERED = 5e8, 1e9  # DeepSpeed's reduce_bucket_size and stage3_max_live_parameters

_USABLE = 0.9  # share of a device's memory that may be planned; the rest is for allocator and kernels
_LEAST_STAGE = {"none": 1, "optimizer": 2, "parameters": 3}  # least ZeRO stage for each --offload
_UNKNOWN_MEMORY_STAGE = 3  # stage for --zero-stage auto if the memory of a device is unknown


@dataclass(frozen=True)
class Layers:
    """A stack of transformer layers."""

    number: int  # layers
    hidden: int  # size
    kept: int  # numbers that autograd keeps per token and layer


def text_layers(config: Any) -> Layers:
    """Return the layers of a language model, from its config."""
    heads, hidden = config.num_attention_heads, config.hidden_size
    size = getattr(config, "head_dim", None) or hidden // heads
    query, key = heads * size, config.num_key_value_heads * size
    kept = 8 * hidden + 7 * query + 3 * key + 4 * config.intermediate_size
    return Layers(config.num_hidden_layers, hidden, kept)


def vision_layers(config: Any) -> Layers:
    """Return the layers of a vision encoder, from its config."""
    number = getattr(config, "depth", None) or config.num_hidden_layers
    return Layers(number, config.hidden_size, 12 * config.hidden_size + 3 * config.intermediate_size)


def activations(layers: Layers, tokens: float, number_bytes: int, checkpointing: bool) -> float:
    """Return the bytes of activations that autograd keeps for ``tokens`` in ``layers``.

    With ``checkpointing`` that is the input of each layer, and all activations of one layer.
    """
    kept = layers.number * layers.hidden + layers.kept if checkpointing else layers.number * layers.kept
    return number_bytes * tokens * kept


def loading_bytes(total: int, number_bytes: int) -> float:
    """Return the bytes of the whole model, which each rank loads in host memory and then on its device."""
    return float(number_bytes * total)


def model_state_bytes(
    total: int, trained: int, number_bytes: int, zero_stage: int, workers: int, offload: str = "none"
) -> dict[str, float]:
    """Return the bytes of one device by purpose, without activations.

    Args:
        total: Parameters of the model.
        trained: Trainable parameters.
        number_bytes: Bytes per number of the forward pass.
        zero_stage: 1, 2 or 3.
        workers: Number of workers.
        offload: Value of ``--offload``: none, optimizer or parameters.
    """
    buffers = min(trained, _BUCKET) + (min(total, _GATHERED) if zero_stage == 3 else 0)
    return {
        "parameters": number_bytes * total / (workers if zero_stage == 3 else 1) * (offload != "parameters"),
        "gradients": number_bytes * trained / (workers if zero_stage >= 2 else 1),
        "optimizer": 16 * trained / workers * (offload == "none"),
        "buffers": number_bytes * buffers,
    }


@dataclass(frozen=True)
class ModelSizes:
    """The sizes of a model that determine the memory of a device."""

    total: int  # parameters
    trained: int  # trainable parameters
    text: Layers
    vision: Layers | None = None  # None unless the vision encoder is trained
    patches_per_token: int = 0  # patches that the vision encoder reads per image token


def model_sizes(backbone: Backbone, config: TrainConfig) -> ModelSizes:
    """Return the sizes of ``backbone``, a skeleton to which any adapters were added."""
    model = backbone.model.config
    vision = vision_layers(model.vision_config) if config.train_vision else None
    total = sum(parameters(backbone).values())
    patches = backbone.family.patches_per_token(model)
    return ModelSizes(total, trained_parameters(backbone), text_layers(model.text_config), vision, patches)


def number_bytes(config: TrainConfig) -> int:
    """Return the bytes per number of the forward pass.

    With ``--precision auto`` 2 (bf16) if the config says that the run is on GPUs, else by this machine.
    """
    on_gpus = config.device == "gpu" or config.device_memory > 0
    if config.precision == "auto" and on_gpus:
        return 2
    return training_dtype(config.precision).itemsize


def training_memory(
    sizes: ModelSizes, config: TrainConfig, tokens: int, patches: int = 0
) -> dict[str, float]:
    """Return the bytes of one device in training by purpose; the module's docstring has the formulas.

    ``tokens`` and ``patches`` are those of the largest micro-batch.
    """
    size, saving = number_bytes(config), config.gradient_checkpointing
    parts = model_state_bytes(
        sizes.total, sizes.trained, size, config.zero_stage, config.workers.least, config.offload
    )
    parts["activations"] = activations(sizes.text, tokens, size, saving)
    if sizes.vision:
        parts["activations"] += activations(sizes.vision, patches, size, saving)
    return parts


def peak_bytes(sizes: ModelSizes, config: TrainConfig) -> float:
    """Return the peak bytes of one device, at the start or in training with a full micro-batch."""
    rows = config.micro_batch * config.max_length
    tokens = max(config.pack_tokens, config.max_length) if config.pack_tokens else rows
    in_training = sum(training_memory(sizes, config, tokens, sizes.patches_per_token * tokens).values())
    return max(in_training, loading_bytes(sizes.total, number_bytes(config)))


def resolve_zero_stage(config: TrainConfig, nodes: Nodes | None = None) -> tuple[TrainConfig, list[str]]:
    """Return ``config`` with its ZeRO stage resolved, and lines for the user about the memory of a device.

    Args:
        config: Options of the run.
        nodes: Nodes of the Ray cluster; None: the run is on this machine.

    Raises:
        TrainingError: The run does not fit a device; the error names options with which it would.
    """
    memory, unknown = device_memory(config, nodes)
    if not memory:
        stage = config.zero_stage or _UNKNOWN_MEMORY_STAGE
        by = "" if config.zero_stage else f"; ZeRO {stage} by --zero-stage auto"
        return replace(config, zero_stage=stage), [f"{unknown}{by}"] if unknown else []
    on_gpus = config if nodes is None else replace(config, device="gpu")  # this machine may have no GPU
    backbone = load_skeleton(config.backbone, config.trained_parts, config.image_backend)
    if config.lora_rank:
        add_adapters(backbone, config)
    sizes = model_sizes(backbone, config)
    chosen = on_gpus if config.zero_stage else choose_stage(sizes, on_gpus, memory)
    lines = [] if config.zero_stage else [_why(sizes, chosen, memory)]
    if backbone.note and not config.dry_run:  # a dry run prints the note itself
        lines.append(backbone.note)
    asked = peak_bytes(sizes, chosen)
    if asked > memory:
        raise TrainingError(
            f"{asked / 2**30:,.1f} GiB of memory a device, estimated, with ZeRO {chosen.zero_stage} on "
            f"{chosen.workers.words}",
            f"{memory / 2**30:,.1f} GiB",
            remedies(sizes, chosen, memory),
        )
    if asked > _USABLE * memory:
        lines.append(
            f"memory may run out: {asked / 2**30:,.0f} of {memory / 2**30:.0f} GiB a device, estimated; "
            + remedies(sizes, chosen, memory)
        )
    return replace(config, zero_stage=chosen.zero_stage), lines


def choose_stage(sizes: ModelSizes, config: TrainConfig, memory: float) -> TrainConfig:
    """Return ``config`` with the ZeRO stage that communicates the least and fits ``memory`` bytes.

    ZeRO 1 sends gradients once per step; ZeRO 2 sends gradients, and ZeRO 3 also parameters, in every
    micro-step. If none fits it is 3, which needs the least memory.
    """
    stages = [replace(config, zero_stage=s) for s in range(_LEAST_STAGE[config.offload], 4)]
    return next((one for one in stages if peak_bytes(sizes, one) <= _USABLE * memory), stages[-1])


def _why(sizes: ModelSizes, config: TrainConfig, memory: float) -> str:
    sent = 3 * number_bytes(config) * sizes.total / 1e9  # gathered forward and backward, gradients once
    line = (
        f"ZeRO {config.zero_stage} by --zero-stage auto: {peak_bytes(sizes, config) / 2**30:,.0f} of "
        f"{memory / 2**30:.0f} GiB a device"
    )
    return line if config.zero_stage == 3 else f"{line}; ZeRO 3 would send {sent:,.0f} GB a micro-step"


def remedies(sizes: ModelSizes, config: TrainConfig, memory: float) -> str:
    """Return advice for the user: options each of which alone makes the run fit, else several to combine."""
    workers = config.workers
    more = replace(workers, least=4 * workers.least, most=4 * workers.most)
    tries = {
        "--gradient-checkpointing": replace(config, gradient_checkpointing=True),
        "--zero-stage 3": replace(config, zero_stage=3),
        f"--pack-tokens and --max-length {config.max_length // 2}": replace(
            config, pack_tokens=config.pack_tokens // 2, max_length=config.max_length // 2
        ),
        "--zero-stage 3 --offload optimizer": replace(config, zero_stage=3, offload="optimizer"),
        f"--workers {more}": replace(config, workers=more),
    }
    fits = [f for f, one in tries.items() if one != config and peak_bytes(sizes, one) <= _USABLE * memory]
    if fits:
        return "give " + ", or ".join(fits)
    if loading_bytes(sizes.total, number_bytes(config)) > memory:
        return "choose a smaller --backbone or devices with more memory: each loads the whole model first"
    return "combine --gradient-checkpointing, --zero-stage 3, --offload, more --workers and --lora-rank"
