"""A model as ``bisieve train`` publishes it, without a training."""

from pathlib import Path
from typing import Any

import torch

from ray_train.config import TrainConfig
from ray_train.config_io import plain_options
from ray_train.model.backbone import Backbone, load_backbone
from ray_train.model.prompt_format import format_of
from ray_train.model.save import model_texts, save_model
from ray_train.model.serving_files import write_texts

_RUN = {"run": "small-1", "index": "file:///corpus/index", "backbone": "some-lab/Some-VL-1B-hf"}


def card_for(backbone: Backbone, /, **others: Any) -> dict[str, Any]:
    """Return the content of ``bisieve.json`` of a run from ``backbone``; ``others`` replace fields."""
    format = format_of(backbone.family, backbone.processor.tokenizer, 0, "family")
    options = plain_options(
        TrainConfig(index="index", image_root="images", backbone="some-lab/Some-VL-1B-hf", output="model")
    )
    words = (format.marker, format.positive, format.negative)
    return {
        "format": 1, **_RUN, "identity": {"index": "f" * 64, "seed": 0}, "config": options,
        "fraction_asked": 0.1, "fraction_delivered": 0.1, "rollouts": 1234, "sources": 3,
        "ranked_by": {"strategy": "bis", "alpha": 0.2, "ties": "spread"}, "held_out": 20,
        "left_out_missing_images": 0, "prompt_format": format.to_json(),
        "metrics": {
            "loss": 0.5, "mean_loss": 0.6, "validation_loss": 0.55, "validation_f1": 0.7,
            "validation_f1_low": 0.6, "validation_f1_high": 0.8,
        },
        "token_ids": {word: backbone.token_id(word) for word in words},
        **others,
    }  # fmt: skip


def publish(source: Path, folder: Path, with_texts: bool = True, **others: Any) -> dict[str, Any]:
    """Publish the backbone at ``source`` into ``folder`` as if it had been trained; return the card."""
    backbone = load_backbone(str(source), torch.float32)
    card = card_for(backbone, **others)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(backbone, dict(backbone.model.state_dict()), card, folder)
    if with_texts:
        write_texts(model_texts(backbone, card, folder.name), folder)
    return card
