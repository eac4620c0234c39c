"""The report of ``--dry-run``: what a run would train on and cost, before anything is written or started."""

from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import torch

from bisieve._text import Report, Table, percent, pluralize, rounded
from bisieve.index.selection import Selection
from bisieve.index.statistics import Statistics, statistics_of
from bisieve.tools.selection_notes import shortcut_notes, statistics_table
from ray_train.config import TrainConfig
from ray_train.config_io import to_toml
from ray_train.data.images import check_tolerated, picture_notes
from ray_train.data.labels import Targets
from ray_train.data.sampler import BatchPlan, Rows
from ray_train.estimates.flops import Load, hours, model_cost, training_flops
from ray_train.estimates.memory import loading_bytes, model_sizes, number_bytes, training_memory
from ray_train.estimates.sample import Tokens, sampled_tokens
from ray_train.model.backbone import Backbone
from ray_train.model.lora import add_adapters
from ray_train.model.packed_attention import check_packable
from ray_train.model.skeleton import load_skeleton, parameters

_ASSUMED_PEAK = 989e12  # FLOP/s of an H100 in bf16, assumed of GPUs without --peak-flops


def dry_run(
    config: TrainConfig, selection: Selection, plan: BatchPlan, targets: Targets, corpus: Statistics
) -> Report:
    """Return the report as text: config, counts per source, statistics, tokens, parameters, memory, hours.

    Writes nothing, and needs neither Ray nor the weights of the backbone.

    Args:
        config: Options of the run.
        selection: The selected rollouts.
        plan: The batches of the run.
        targets: Of all rows of the selection.
        corpus: Statistics of all rollouts of the index that are not left out, with the run's label threshold.

    Raises:
        TrainingError: The backbone's config or processor is missing, or its model cannot have the adapters or
            packs that ``config`` asks for.
        ImageError: The sample has more broken images than the run tolerates.
    """
    backbone = load_skeleton(config.backbone, config.trained_parts, config.image_backend)
    if config.lora_rank:
        add_adapters(backbone, config)
    if config.pack_tokens:
        check_packable(backbone.model)
    rows = sampled_tokens(replace(config, pack_tokens=0), selection, plan, targets, backbone)
    check_tolerated(rows.broken, config.skip_broken_images)
    packs = sampled_tokens(config, selection, plan, targets, backbone) if config.pack_tokens else None
    factor = plan.rows_per_epoch * plan.epochs / max(1, rows.rollouts + rows.skipped)
    used = packs or rows
    return Report(
        *_config(config, backbone), _sources(selection, plan, config.label_threshold),
        *_statistics(config, selection, corpus),
        *_tokens(config, plan, rows, packs, factor), *_model(backbone),
        *_memory(config, backbone, used), *_hours(config, backbone, used, factor),
        "dry run: nothing was written",
    )  # fmt: skip


def _config(config: TrainConfig, backbone: Backbone) -> list[str]:
    used = {"max_tiles": config.max_tiles or backbone.family.tiles}
    text = to_toml(config, "the resolved config, as --config reads it", used)
    return [f"  {line}" for line in text.splitlines()]


def _sources(selection: Selection, plan: BatchPlan, threshold: float) -> Table:
    """Return a table with the rollouts and steps that are trained on, by source, and those held out."""
    absent = np.zeros(plan.num_rows, np.bool_)
    absent[list(plan.left_out)] = True
    held = np.zeros(plan.num_rows, np.bool_)
    held[list(plan.held_out)] = True
    sources = np.array(selection.rows["source"].to_pylist(), np.str_)
    groups = [(name, (sources == name) & ~held & ~absent) for name in np.unique(sources).tolist()]
    groups.append(("all", ~held & ~absent))
    if plan.held_out:
        groups.append(("held out", held))
    rows = []
    for name, chosen in groups:
        rollouts, steps, positive = _counts(selection, np.flatnonzero(chosen), threshold)
        rows.append((name, f"{rollouts:,}", f"{steps:,}", f"{positive / max(1, steps):.1%}"))
    return Table(("source", "rollouts", "steps", "positive"), rows)


def _statistics(config: TrainConfig, selection: Selection, corpus: Statistics) -> list[str | Table]:
    """Return the selection's statistics beside the corpus's, and a note on a shortcut."""
    found = statistics_of(selection.rows, config.label_threshold)
    table = statistics_table(corpus, [(f"best {percent(config.fraction)}", found)])
    return [table, *shortcut_notes(corpus, found, config.fraction, selection.parameters.strategy)]


def _counts(selection: Selection, rows: Rows, threshold: float) -> tuple[int, int, int]:
    scores = pc.list_flatten(selection.rows["scores"].take(rows)).to_numpy()
    return len(rows), len(scores), int((scores > threshold).sum())


def _tokens(
    config: TrainConfig, plan: BatchPlan, rows: Tokens, packs: Tokens | None, factor: float
) -> list[str]:
    size = pluralize(rows.rollouts + rows.skipped, "rollout")
    lines = [f"tokens, estimated from {size} of the first batches, over {pluralize(plan.epochs, 'epoch')}:"]
    if packs is not None:
        lines.append(
            f"  in packs of {config.pack_tokens:,}: {_of_all(packs, factor)}; "
            f"{packs.rollouts / max(1, packs.sequences):.1f} rollouts a pack, {_of_one(packs)}"
        )
    unused = " (--pack-tokens 0)" if packs else ""
    lines.append(
        f"  in rows of --micro-batch {config.micro_batch}{unused}: {_of_all(rows, factor)}; {_of_one(rows)}"
    )
    if rows.shortened or rows.skipped:
        skipped = f"{rows.skipped:,} skipped"
        lines.append(f"  of the sample {rows.shortened:,} would be shortened to fit, {skipped}")
    if rows.images:
        lines.append(f"  tokens an image: {rows.image_tokens / rows.images:,.0f}")
    notes = picture_notes(rows.transparent, rows.unclear, rows.broken)
    lines += [f"  of the sample: {note}" for note in notes]
    lines += [
        f"    {pluralize(number, 'rollout')} with {pluralize(marks, 'placeholder')}"
        f" for {pluralize(image, 'image')}"
        for (marks, image), number in sorted(rows.misfits.items())
    ]
    return lines


def _of_all(tokens: Tokens, factor: float) -> str:
    return f"{rounded(tokens.tokens * factor)}, of images {rounded(tokens.image_tokens * factor)}"


def _of_one(tokens: Tokens) -> str:
    return f"{tokens.tokens / max(1, tokens.rollouts):,.0f} tokens a rollout"


def _model(backbone: Backbone) -> list[str]:
    trained = parameters(backbone, trained=True)
    parts = [
        f"{part} {rounded(number)} {_trained(trained[part], number)}"
        for part, number in parameters(backbone).items()
    ]
    return [f"parameters: {', '.join(parts)}", *([f"  {backbone.note}"] if backbone.note else [])]


def _trained(trained: int, number: int) -> str:
    if 0 < trained < number:  # it has adapters
        return f"of which {rounded(trained)} trained"
    return "trained" if trained else "frozen"


def _memory(config: TrainConfig, backbone: Backbone, used: Tokens) -> list[str]:
    patches = used.most_image_tokens * backbone.family.patches_per_token(backbone.model.config)
    sizes = model_sizes(backbone, config)
    parts = training_memory(sizes, config, used.longest, patches)
    in_training, at_start = sum(parts.values()), loading_bytes(sizes.total, number_bytes(config))
    how = "as this machine has it" if config.precision == "auto" else "as asked for"
    if config.precision == "auto" and (config.device == "gpu" or config.device_memory):
        how = "as GPUs have it"
    name = {2: "bfloat16", 4: "float32"}[number_bytes(config)]
    return [
        f"memory of a device, estimated, {name} ({how}), ZeRO {config.zero_stage} on "
        f"{config.workers.words}, {used.longest:,} tokens at once: {_bytes(max(in_training, at_start))}",
        f"  in training {_bytes(in_training)}: "
        + ", ".join(f"{part} {_bytes(value)}" for part, value in parts.items()),
        f"  at the start {_bytes(at_start)}, the whole model, which each rank loads in host memory first: "
        f"{_bytes(at_start * config.workers.least)} where all are on one machine",
    ]


def _hours(config: TrainConfig, backbone: Backbone, used: Tokens, factor: float) -> list[str]:
    patches = used.image_tokens * backbone.family.patches_per_token(backbone.model.config)
    cost, loads = model_cost(backbone), (patches, used.image_tokens, used.tokens)
    parts = zip((cost.vision, cost.projector, cost.language), map(Load, loads), strict=True)
    work = factor * training_flops(list(parts), config.gradient_checkpointing)
    devices = pluralize(config.workers.least, "device")
    if not config.peak_flops and not _on_gpus(config):
        return [
            f"time: unknown for {rounded(work / 1e12)} TFLOPs on {devices} without a GPU; --peak-flops gives "
            f"what one reaches at best, --device gpu assumes {rounded(_ASSUMED_PEAK / 1e12)} TFLOP/s"
        ]
    peak = config.peak_flops or _ASSUMED_PEAK
    time = _duration(hours(work, config.workers.least, peak, config.mfu))
    return [
        f"time, estimated: {time} for {rounded(work / 1e12)} TFLOPs on {devices} of "
        f"{rounded(peak / 1e12)} TFLOP/s (--peak-flops), of which {config.mfu:.0%} is reached (--mfu)"
    ]


def _on_gpus(config: TrainConfig) -> bool:
    """Return whether the run will have GPUs, as far as can be known here."""
    is_planned = config.device == "gpu" or bool(config.device_memory)
    return is_planned or (config.device == "auto" and torch.cuda.is_available())


def _duration(hours: float) -> str:
    seconds = 3600 * hours
    if seconds < 1:
        return "less than a second"
    units = ((3600, "hours"), (60, "minutes"), (1, "seconds"))
    size, name = next(unit for unit in units if seconds >= 2 * unit[0] or unit[0] == 1)
    return f"{seconds / size:,.1f} {name}"


def _bytes(number: float) -> str:
    return f"{number / 2**30:,.2f} GiB" if number >= 2**30 else f"{number / 2**20:,.1f} MiB"
