"""Estimated memory against what autograd keeps."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AttentionInterface, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from ray_train.estimates.memory import activations, loading_bytes, model_state_bytes, text_layers
from ray_train.model.packed_attention import NAME, Extent, blocks_of, shared_prompt_attention

TOKENS = 128


def kept_bytes(model: Any, packs: bool) -> int:
    """Bytes that autograd keeps of a forward pass, parameters aside."""
    ours = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    storages = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    options: dict[str, Any] = {}
    if packs:
        extents = [Extent(TOKENS // 4, (TOKENS // 8, TOKENS // 8))] * 2
        options = {
            "blocks": blocks_of(extents, torch.device("cpu")),
            "position_ids": torch.arange(TOKENS)[None],
        }
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _hidden = model.model(torch.zeros(1, TOKENS, dtype=torch.long), use_cache=False, **options)
    return sum(size for place, size in storages.items() if place not in ours)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("packs", [True, False], ids=["packs", "rows"])
@pytest.mark.parametrize(
    ("kind", "config"), [(Qwen2ForCausalLM, Qwen2Config), (Qwen3ForCausalLM, Qwen3Config)]
)
def test_the_estimate_is_near_what_autograd_keeps_of_a_layer(
    kind: Any, config: Any, packs: bool, dtype: torch.dtype
) -> None:
    AttentionInterface.register(NAME, shared_prompt_attention)
    found, expected = [], []
    for layers in (2, 4):
        sizes = config(
            vocab_size=50, hidden_size=128, intermediate_size=384, num_hidden_layers=layers,
            num_attention_heads=4, num_key_value_heads=2, head_dim=32,
        )  # fmt: skip
        model = kind(sizes).to(dtype).train()
        if packs:
            model.set_attn_implementation(NAME)
        found.append(kept_bytes(model, packs))
        expected.append(activations(text_layers(sizes), TOKENS, dtype.itemsize, False))
    assert 0.9 < (expected[1] - expected[0]) / (found[1] - found[0]) < 1.4


def test_checkpointing_keeps_the_input_of_each_layer_alone() -> None:
    sizes = Qwen2Config(
        vocab_size=50,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    model = Qwen2ForCausalLM(sizes).train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    layers = text_layers(sizes)
    one_in_full = 4 * TOKENS * layers.kept  # while the backward pass is in it
    expected = activations(layers, TOKENS, 4, True) - one_in_full
    assert kept_bytes(model, False) == pytest.approx(expected, rel=0.5)


def test_zero_divides_what_it_says() -> None:
    total, trained, workers = 1000, 600, 4
    one, two, three = (model_state_bytes(total, trained, 2, stage, workers) for stage in (1, 2, 3))
    assert (one["parameters"], one["gradients"]) == (2 * total, 2 * trained)
    assert (two["parameters"], two["gradients"]) == (2 * total, 2 * trained / workers)
    assert (three["parameters"], three["gradients"]) == (2 * total / workers, 2 * trained / workers)
    assert one["optimizer"] == two["optimizer"] == three["optimizer"] == 16 * trained / workers


def test_the_whole_model_is_loaded_before_zero_divides_it() -> None:
    assert loading_bytes(1000, 2) == model_state_bytes(1000, 600, 2, 1, 8)["parameters"] == 2 * 1000


def test_the_sizes_of_buffers_are_deepspeeds() -> None:
    package = find_spec("deepspeed")  # not imported: that takes longer than all of these tests
    assert package is not None
    assert package.origin is not None
    text = (Path(package.origin).parent / "runtime" / "zero" / "config.py").read_text()
    names = ("reduce_bucket_size", "max_live_parameters")
    defaults = [re.search(rf"    {name}: int = Field\(pp_int\((\w+)\)", text) for name in names]
    buckets = sum(float(found[1]) for found in defaults if found)
    assert model_state_bytes(10**12, 10**12, 2, 3, 1)["buffers"] == 2 * buckets


def test_what_is_offloaded_is_not_on_the_device() -> None:
    on_device = model_state_bytes(1000, 500, 2, 3, 2)
    assert model_state_bytes(1000, 500, 2, 3, 2, "optimizer") == on_device | {"optimizer": 0}
    assert model_state_bytes(1000, 500, 2, 3, 2, "parameters") == on_device | {
        "optimizer": 0,
        "parameters": 0,
    }
