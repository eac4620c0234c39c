"""Estimate the memory that training needs on a device, find what it has, and choose the ZeRO stage that fits.

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

What a device has is found before the workers start: in the config, on this machine or in the Ray cluster.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch

from bisieve.errors import TrainingError
from ray_train.config import TrainConfig
from ray_train.model.backbone import Backbone, training_dtype
from ray_train.model.lora import add_adapters
from ray_train.model.skeleton import load_skeleton, parameters, trained_parameters

Nodes: TypeAlias = Sequence[dict[str, Any]]  # nodes of a cluster, as ``ray.nodes()`` returns them

_BUCKET, _GATHERED = 5e8, 1e9  # DeepSpeed's reduce_bucket_size and stage3_max_live_parameters

_IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray for the command of a job
_TYPE = "accelerator_type:"  # prefix of the Ray resource that names a node's type of GPU
# GB of the GPU types, as Ray names them, that have a single memory size: not V100 (16, 32) or A100 (40, 80).
_GB = {
    "T4": 16, "L4": 24, "A10G": 24, "A10": 24, "A30": 24, "A40": 48, "L40": 48, "L40S": 48, "RTX-A6000": 48,
    "RTX-PRO-6000": 96, "A100-40G": 40, "A100-80G": 80, "H20": 96, "H100": 80, "H800": 80, "H200": 141,
    "B200": 180, "GB200": 186, "AMD-Instinct-MI300X-OAM": 192, "AMD-Instinct-MI325X-OAM": 256,
}  # fmt: skip

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
        total: parameters of the model.
        trained: trainable parameters.
        number_bytes: bytes per number of the forward pass.
        zero_stage: 1, 2 or 3.
        workers: number of workers.
        offload: value of ``--offload``: none, optimizer or parameters.
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


def asked_before_workers(config: TrainConfig) -> bool:
    """Return whether the cluster's nodes are queried when the run is planned, long before its workers start.

    Not in a Ray job: as long as no worker uses the job's code, nodes on one machine delete it from the folder
    that they share.
    """
    return _is_asked(config) and _IN_A_JOB not in os.environ


def asked_with_workers(config: TrainConfig) -> bool:
    """Return whether the cluster's nodes are queried just before the workers start, as in a Ray job."""
    return _is_asked(config) and _IN_A_JOB in os.environ


def _is_asked(config: TrainConfig) -> bool:
    known = config.device_memory or config.device == "cpu"
    return not known and not config.dry_run and "RAY_ADDRESS" in os.environ


def device_memory(config: TrainConfig, nodes: Nodes | None = None) -> tuple[float, str]:
    """Return the memory of the smallest device in bytes, 0 if unknown, and a line that says why.

    Args:
        config: of the run; its ``device_memory`` takes precedence.
        nodes: of the Ray cluster; None: the GPUs of this machine count.

    Returns:
        Bytes and the line, which is empty if the memory is known. 0 and an empty line if the workers compute
        on CPUs, or if nothing says that there are GPUs.
    """
    if config.device_memory:
        return config.device_memory * 1e9, ""
    if config.device == "cpu":
        return 0.0, ""
    if nodes is not None:
        return _of_nodes([node["Resources"] for node in nodes if node["Alive"]], config)
    number = torch.cuda.device_count()
    if number >= config.workers.least or (number and config.device == "gpu"):
        return float(min(torch.cuda.get_device_properties(one).total_memory for one in range(number))), ""
    if asked_with_workers(config):
        return 0.0, "GPU memory not known yet: checked before the workers start"
    elsewhere = config.device == "gpu" or "RAY_ADDRESS" in os.environ
    return 0.0, _unknown("the GPUs are on other machines") if elsewhere else ""


def _of_nodes(resources: Sequence[dict[str, float]], config: TrainConfig) -> tuple[float, str]:
    """Return what `device_memory` does, for nodes with these Ray resources (name -> amount)."""
    kinds = [
        {name.removeprefix(_TYPE) for name in one if name.startswith(_TYPE)}
        for one in resources
        if one.get("GPU")
    ]
    if not kinds:
        return 0.0, _unknown("no node of the cluster has a GPU yet") if config.device == "gpu" else ""
    unknown = {", ".join(sorted(kind)) or "GPUs of no named type" for kind in kinds if not kind & _GB.keys()}
    if unknown:
        return 0.0, _unknown(f"the cluster has {'; '.join(sorted(unknown))}")
    return min(max(_GB[name] for name in kind & _GB.keys()) for kind in kinds) * 1e9, ""


def _unknown(why: str) -> str:
    return f"GPU memory unknown ({why}), not checked: give --device-memory GB"


def resolve_zero_stage(config: TrainConfig, nodes: Nodes | None = None) -> tuple[TrainConfig, list[str]]:
    """Return ``config`` with its ZeRO stage resolved, and lines for the user about the memory of a device.

    Args:
        config: of the run.
        nodes: of the Ray cluster; None: the run is on this machine.

    Raises:
        TrainingError: the run does not fit a device; the error names options with which it would.
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
