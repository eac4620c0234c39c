"""What the published config.json says is true of the weights and of the tokenizer beside it."""

import json
from pathlib import Path

from support.published import publish
from transformers import AutoTokenizer

from ray_train.model.files import stored_tensors


def test_config_and_weights_say_the_same(hub_checkpoint: Path, tmp_path: Path) -> None:
    publish(hub_checkpoint, tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    stored = stored_tensors(str(tmp_path / "model"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    (embeddings,) = (one for name, one in stored.items() if name.endswith("embed_tokens.weight"))
    heads = [one for name, one in stored.items() if name.endswith("lm_head.weight")]
    text = config["text_config"]
    assert config["tie_word_embeddings"] is (not heads)
    assert text.get("tie_word_embeddings", not heads) is (not heads)
    assert (text["vocab_size"], text["hidden_size"]) == embeddings.shape
    assert all(head.shape == embeddings.shape for head in heads)
    assert len(tokenizer) <= text["vocab_size"]
    assert {"float32": "F32"}[config["dtype"]] == embeddings.dtype
    assert config["architectures"][0].endswith("ForConditionalGeneration")
    image = config.get("image_token_id", config.get("image_token_index"))
    slots = {"<IMG_CONTEXT>", "<|image_pad|>", "<image_soft_token>"}
    assert tokenizer.convert_ids_to_tokens(image) in slots
    assert "_attn_implementation" not in (tmp_path / "model/config.json").read_text()
    card = json.loads((tmp_path / "model/bisieve.json").read_text())
    for token, number in card["token_ids"].items():
        assert tokenizer.convert_tokens_to_ids(token) == number
