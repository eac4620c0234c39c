"""Choose a ZeRO stage by the estimated memory of a device, and compare that with what the device has."""

from dataclasses import dataclass, replace

from bisieve.errors import TrainingError
from ray_train.config import TrainConfig
from ray_train.estimates.device_memory import Nodes, device_memory
from ray_train.estimates.footprint import Layers, activations, loading, states, text_layers, vision_layers
from ray_train.estimates.skeleton import load_skeleton, parameters, trained_parameters
from ray_train.model.backbone import Backbone
from ray_train.model.lora import add_adapters
from ray_train.run.engine import training_dtype

UNKNOWN_MEMORY_STAGE = 3  # what auto means where the memory of a device is not known
_USABLE = 0.9  # share of a device's memory; the allocator and kernels take the rest
_LEAST_STAGE = {"none": 1, "optimizer": 2, "parameters": 3}  # that offloads so much


@dataclass(frozen=True)
class ModelSizes:
    """What the memory of a device depends on, of a model."""

    total: int  # parameters
    trained: int
    text: Layers
    vision: Layers | None = None  # where it is trained
    patches_per_token: int = 0  # of an image, that the vision encoder reads


def model_sizes(backbone: Backbone, config: TrainConfig) -> ModelSizes:
    """Return the sizes of ``backbone``, a skeleton with its adapters."""
    model = backbone.model.config
    vision = vision_layers(model.vision_config) if config.train_vision else None
    total = sum(parameters(backbone).values())
    patches = backbone.family.patches_per_token(model)
    return ModelSizes(total, trained_parameters(backbone), text_layers(model.text_config), vision, patches)


def number_bytes(config: TrainConfig) -> int:
    """Return the bytes of a number in the forward pass: bf16 where the run is said to be on GPUs."""
    on_gpus = config.device == "gpu" or config.device_memory > 0
    if config.precision == "auto" and on_gpus:
        return 2
    return training_dtype(config.precision).itemsize


def training_memory(
    sizes: ModelSizes, config: TrainConfig, tokens: int, patches: int = 0
) -> dict[str, float]:
    """Return the bytes of one device in training by what they are for, as `footprint` derives them."""
    size, saving = number_bytes(config), config.gradient_checkpointing
    parts = states(sizes.total, sizes.trained, size, config.zero_stage, config.workers.least, config.offload)
    parts["activations"] = activations(sizes.text, tokens, size, saving)
    if sizes.vision:
        parts["activations"] += activations(sizes.vision, patches, size, saving)
    return parts


def needed(sizes: ModelSizes, config: TrainConfig) -> float:
    """Return the most bytes that one device needs at the start or in training, with a full batch."""
    rows = config.micro_batch * config.max_length
    tokens = max(config.pack_tokens, config.max_length) if config.pack_tokens else rows
    in_training = sum(training_memory(sizes, config, tokens, sizes.patches_per_token * tokens).values())
    return max(in_training, loading(sizes.total, number_bytes(config)))


def choose_stage(sizes: ModelSizes, config: TrainConfig, memory: float) -> TrainConfig:
    """Return ``config`` with the ZeRO stage that sends the least among those that fit ``memory`` bytes.

    ZeRO 1 sends gradients once a step, ZeRO 2 gradients and ZeRO 3 also parameters at every micro-step; where
    none fits it is 3, which needs the least.
    """
    stages = [replace(config, zero_stage=s) for s in range(_LEAST_STAGE[config.offload], 4)]
    return next((one for one in stages if needed(sizes, one) <= _USABLE * memory), stages[-1])


def fitted(config: TrainConfig, nodes: Nodes | None = None) -> tuple[TrainConfig, list[str]]:
    """Return ``config`` with its ZeRO stage resolved, and what is to be said of a device's memory.

    ``nodes`` are those of a Ray cluster; without, the run is on this machine.

    Raises:
        TrainingError: a device cannot hold the model; the error names options that change that.
    """
    memory, unknown = device_memory(config, nodes)
    if not memory:
        stage = config.zero_stage or UNKNOWN_MEMORY_STAGE
        by = "" if config.zero_stage else f"; ZeRO {stage} by --zero-stage auto"
        return replace(config, zero_stage=stage), [f"{unknown}{by}"] if unknown else []
    on_gpus = config if nodes is None else replace(config, device="gpu")  # this machine may have none
    backbone = load_skeleton(config.backbone, config.trained_parts, config.image_backend)
    if config.lora_rank:
        add_adapters(backbone, config)
    sizes = model_sizes(backbone, config)
    chosen = on_gpus if config.zero_stage else choose_stage(sizes, on_gpus, memory)
    lines = [] if config.zero_stage else [_why(sizes, chosen, memory)]
    if backbone.note and not config.dry_run:  # which says it itself
        lines.append(backbone.note)
    asked = needed(sizes, chosen)
    if asked > memory:
        raise TrainingError(
            f"{asked / 2**30:.1f} GiB of memory a device, estimated, with ZeRO {chosen.zero_stage} on "
            f"{chosen.workers.words}",
            f"{memory / 2**30:.1f} GiB",
            remedies(sizes, chosen, memory),
        )
    if asked > _USABLE * memory:
        lines.append(
            f"memory may run out: {asked / 2**30:.0f} of {memory / 2**30:.0f} GiB a device, estimated; "
            + remedies(sizes, chosen, memory)
        )
    return replace(config, zero_stage=chosen.zero_stage), lines


def remedies(sizes: ModelSizes, config: TrainConfig, memory: float) -> str:
    """Return advice that names the options with which the run would fit, each on its own where one does."""
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
    fits = [f for f, one in tries.items() if one != config and needed(sizes, one) <= _USABLE * memory]
    if fits:
        return "give " + ", or ".join(fits)
    if loading(sizes.total, number_bytes(config)) > memory:
        return "choose a smaller --backbone or devices with more memory: each loads the whole model first"
    return "combine --gradient-checkpointing, --zero-stage 3, --offload, more --workers and --lora-rank"


def _why(sizes: ModelSizes, config: TrainConfig, memory: float) -> str:
    sent = 3 * number_bytes(config) * sizes.total / 1e9  # gathered forward and backward, gradients once
    line = (
        f"ZeRO {config.zero_stage} by --zero-stage auto: {needed(sizes, config) / 2**30:.0f} of "
        f"{memory / 2**30:.0f} GiB a device"
    )
    return line if config.zero_stage == 3 else f"{line}; ZeRO 3 would send {sent:.0f} GB a micro-step"
