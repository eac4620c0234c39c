"""On checkpoints odd as the hub's: the ids of marker and answers, the count of parameters, packs."""

from pathlib import Path

from safetensors import safe_open

from ray_train.estimates.skeleton import load_skeleton, parameters
from ray_train.model.packed_attention import check_packable

MARKERS = {
    "InternVL2.5-MPO": 92_553, "InternVL3": 151_674, "InternVL3.5": 151_679, "Qwen2.5-VL": 151_665,
    "Qwen3-VL": 151_669,
}  # fmt: skip
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

    skeleton.model.set_attn_implementation("sdpa")
    check_packable(skeleton.model)


def stored_numbers(folder: Path) -> int:
    """How many numbers the weight files hold."""
    total = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            total += sum(weights.get_tensor(key).numel() for key in weights.keys())  # noqa: SIM118
    return total
