"""Operations of a model: the formula against what torch counts while the model runs."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from support.hub_checkpoints import CHECKPOINTS
from support.prompts import PARTS, PROMPTS, backbone_of
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForImageTextToText

from ray_train.data.encode import filler, make_encoder
from ray_train.data.packing import make_packer
from ray_train.estimates.flops import (
    Load,
    ModelCost,
    Part,
    causal_pairs,
    forward_flops,
    hours,
    model_cost,
    peak_flops,
    token_counts,
    training_flops,
)
from ray_train.model.backbone import load_backbone, train_only
from ray_train.model.packed_attention import read_packs
from ray_train.model.prompt_format import format_of
from ray_train.model.reward import Batch, RewardModel, reward_loss, reward_model

TOLERANCE = 0.03  # for the head's rows, rotations, the gradient of the projector's inputs


def counted(model: RewardModel, batch: Batch) -> int:
    """The operations of a forward and a backward pass, as torch counts matrix products."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        reward_loss(model(batch.inputs), batch.labels, batch.weights).backward()
    return int(counter.get_total_flops())


def expected(cost: ModelCost, model: RewardModel, batch: Batch) -> int:
    """What torch counts, by the formula."""
    return cost.flops(batch) + hidden(cost, batch) - pixels(cost, model, batch)


def hidden(cost: ModelCost, batch: Batch) -> int:
    """Spent on pairs that the attention hides: a kernel need not compute them."""
    if (extents := batch.inputs.get("extents")) is None:
        lengths = batch.inputs["attention_mask"].sum(dim=1).tolist()
        pairs = sum(length**2 - causal_pairs(length) for length in lengths)
    else:
        pairs = sum(
            shared**2 + sum(own) * (shared + sum(own)) - causal_pairs(shared)
            - sum(length * shared + causal_pairs(length) for length in own)
            for shared, own in extents
        )  # fmt: skip
    return 12 * cost.language.width * cost.layers * pairs


def pixels(cost: ModelCost, model: RewardModel, batch: Batch) -> int:
    """The gradient of the pixels: much of a tiny encoder, little of a real one, and computed by none."""
    if not cost.vision.trained:
        return 0
    (conv,) = (module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Conv3d))
    return 2 * int(batch.inputs["pixel_values"].numel()) * conv.out_channels


@pytest.mark.parametrize("parts", [*PARTS.values(), ("projector",)], ids=[*PARTS, "projector alone"])
def test_the_formula_counts_what_torch_counts(folder: Path, parts: tuple[str, ...]) -> None:
    backbone, encoder = backbone_of(folder, parts)
    model, cost = reward_model(backbone, encoder.format), model_cost(backbone)
    (row,) = [encoder.encode(PROMPTS[2][:1])]
    assert expected(cost, model, row) == pytest.approx(counted(model, row), rel=TOLERANCE)
    read_packs(backbone.model)
    (pack,) = make_packer(backbone, encoder, 4096).packs(PROMPTS)
    assert expected(cost, model, pack) == pytest.approx(counted(model, pack), rel=TOLERANCE)


def test_a_window_of_the_language_model_and_a_bare_matrix_of_the_projector_count(tmp_path: Path) -> None:
    CHECKPOINTS["Gemma3"](tmp_path)
    backbone = load_backbone(str(tmp_path), torch.float32)
    train_only(backbone.model, backbone.family, PARTS["frozen vision"])
    format = format_of(backbone.family, backbone.processor.tokenizer, 1, "family")
    encoder = make_encoder(backbone, format, 4096)
    cost, batch = model_cost(backbone), encoder.encode(PROMPTS[1][:1])
    assert (cost.sliding_layers, cost.sliding_window, cost.class_tokens) == (1, 24, 0)
    model = reward_model(backbone, encoder.format)
    length = int(batch.inputs["attention_mask"].sum())
    seen = sum(min(place, 24) for place in range(1, length + 1))
    behind = 12 * cost.language.width * (length**2 - seen)  # computed, and hidden by the window
    assert expected(cost, model, batch) + behind == pytest.approx(counted(model, batch), rel=TOLERANCE)


def rebuilt(folder: Path, target: Path, part: str, **options: object) -> Path:
    """A backbone with another config, and new weights."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    config[part] |= options
    (target / "config.json").write_text(json.dumps(config))
    AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(target)).save_pretrained(target)
    return target


def test_windows_of_a_vision_encoder_cost_less(qwen: Path, tmp_path: Path) -> None:
    windowed = {"depth": 3, "fullatt_block_indexes": [1], "window_size": 56}
    backbone, encoder = backbone_of(
        rebuilt(qwen, tmp_path / "windowed", "vision_config", **windowed), PARTS["trained vision"]
    )
    cost, batch = model_cost(backbone), encoder.encode(PROMPTS[1])
    assert (cost.windowed_layers, cost.window) == (2, 4)
    model = reward_model(backbone, encoder.format)
    assert expected(cost, model, batch) == pytest.approx(counted(model, batch), rel=TOLERANCE)


def test_experts_count_as_often_as_a_token_is_sent_to_them(internvl: Path, tmp_path: Path) -> None:
    experts = {
        "model_type": "qwen3_moe", "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
        "head_dim": 12, "decoder_sparse_step": 1, "mlp_only_layers": [],
    }  # fmt: skip
    backbone, encoder = backbone_of(rebuilt(internvl, tmp_path / "experts", "text_config", **experts))
    backbone.model.set_experts_implementation("eager")
    cost, batch = model_cost(backbone), encoder.encode(PROMPTS[1])
    model = reward_model(backbone, encoder.format)
    assert expected(cost, model, batch) == pytest.approx(counted(model, batch), rel=TOLERANCE)


def test_padding_and_fillers_are_no_work(internvl: Path) -> None:
    backbone, encoder = backbone_of(internvl)
    cost = model_cost(backbone)
    samples = PROMPTS[0][:2]
    together, alone = encoder.encode(samples), [encoder.encode([sample]) for sample in samples]
    assert cost.flops(together) == sum(cost.flops(batch) for batch in alone)
    tokens, places = token_counts(together)
    assert tokens == sum(token_counts(batch)[0] for batch in alone) < places
    empty = encoder.encode([filler()])
    assert cost.flops(empty) == token_counts(empty)[0] == 0 < token_counts(empty)[1]


def test_a_frozen_part_has_a_backward_pass_only_behind_a_trained_one() -> None:
    frozen, trained, load = Part(10, 0, width=2), Part(10, 10, width=2), Load(tokens=3, pairs=5)
    forward = forward_flops(frozen, load)
    assert forward == 2 * 10 * 3 + 4 * 2 * 5
    assert training_flops([(frozen, load)]) == forward
    assert training_flops([(trained, load)]) == 3 * forward
    assert training_flops([(frozen, load), (trained, load)]) == 4 * forward
    assert training_flops([(trained, load), (frozen, load)]) == 6 * forward - 2 * 10 * 3


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989), ("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA A10G", 70), ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362), ("AMD Instinct MI300X", 1307), ("NVIDIA GeForce GTX 1080", 0), ("", 0),
    ],
)  # fmt: skip
def test_the_peak_of_a_device_is_found_by_its_name(name: str, teraflops: float) -> None:
    assert peak_flops(name) == teraflops * 1e12


@pytest.mark.parametrize(("trained", "expected"), [(0, 2), (10, 8)], ids=["frozen", "trained"])
def test_checkpointing_does_the_forward_pass_twice_where_there_is_a_backward_pass(
    trained: int, expected: int
) -> None:
    assert training_flops([(Part(10, trained), Load(3))], checkpointing=True) == expected * 10 * 3


def test_hours_are_work_over_what_the_devices_reach() -> None:
    assert hours(7.2e18, 8, 1e15, 0.25) == pytest.approx(1.0)
