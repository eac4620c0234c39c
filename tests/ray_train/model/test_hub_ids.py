"""On checkpoints odd as the hub's: the ids of marker and answers, the count of parameters, packs."""

from pathlib import Path

import pytest
from safetensors import safe_open
from support.hubs import MODEL_TYPES

from bisieve.errors import TrainingError
from ray_train.config import TrainConfig
from ray_train.estimates.flops import model_cost
from ray_train.model.lora import add_adapters
from ray_train.model.packed_attention import check_packable, check_reads_packs
from ray_train.model.skeleton import load_skeleton, parameters, trained_parameters

MARKERS = {
    "InternVL2.5-MPO": 92_553, "InternVL3": 151_674, "InternVL3.5": 151_679, "Qwen2.5-VL": 151_665,
    "Qwen3-VL": 151_669, "Qwen3.5": 248_077, "Gemma3": 262_145,
}  # fmt: skip
IN_ROWS = {"Qwen3.5": "layers of linear_attention", "Gemma3": "layers of sliding_attention"}
NEW_ROWS = {"InternVL2.5-MPO": 2, "InternVL3": 2}  # of embeddings and head, where all rows are taken


def test_ids_parameters_and_packs(hub_checkpoint: Path) -> None:
    skeleton = load_skeleton(str(hub_checkpoint), [])
    name, tokenizer = hub_checkpoint.name, skeleton.processor.tokenizer
    assert skeleton.token_id("<prm>") == MARKERS[name]
    assert tokenizer.convert_ids_to_tokens([skeleton.token_id("Yes"), skeleton.token_id("No")]) == [
        "Yes",
        "No",
    ]

    config = skeleton.model.config.get_text_config()
    counted = sum(parameters(skeleton).values())
    assert counted == stored_numbers(hub_checkpoint) + NEW_ROWS.get(name, 0) * config.hidden_size

    assert skeleton.family.model_type == MODEL_TYPES[name]
    skeleton.model.set_attn_implementation("sdpa")
    if name in IN_ROWS:
        assert model_cost(skeleton).layers == 1
        for check in (lambda: check_packable(skeleton.model), lambda: check_reads_packs(skeleton.family)):
            with pytest.raises(TrainingError, match=f"found.* {IN_ROWS[name]}.*; give --pack-tokens 0"):
                check()
    else:
        check_packable(skeleton.model)
        check_reads_packs(skeleton.family)
    add_adapters(skeleton, TrainConfig(index="", image_root="", backbone="", output="", lora_rank=4))
    assert 0 < trained_parameters(skeleton) < counted / 2


def stored_numbers(folder: Path) -> int:
    """How many numbers the weight files hold."""
    total = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            used = [key for key in weights.keys() if not key.startswith("mtp.")]  # noqa: SIM118
            total += sum(weights.get_tensor(key).numel() for key in used)
    return total
