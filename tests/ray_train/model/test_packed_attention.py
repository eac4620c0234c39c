"""Which language models can read packs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.backbones import build_internvl
from support.prompts import backbone_of
from transformers import Gemma2Config, GptOssConfig, Qwen2Config, Qwen3MoeConfig, Qwen3NextConfig

from bisieve.errors import TrainingError
from ray_train.config import TrainConfig
from ray_train.model.packed_attention import Extent, blocks_of, read_packs, shared_prompt_attention
from ray_train.training.driver import train
from ray_train.training.worker import trainable_backbone

MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
FULL = {"head_dim": 12, "layer_types": ["full_attention"] * 2}
REFUSED = {
    "sinks": (
        GptOssConfig,
        {"num_local_experts": 2, "num_experts_per_tok": 1, **FULL},
        "attention sinks",
    ),
    "sliding layers": (
        Qwen2Config,
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
        "a sliding window, layers of sliding_attention",
    ),
    "a window and no kinds of layers": (
        Qwen3MoeConfig,
        {**MOE, "use_sliding_window": True, "sliding_window": 8},
        "a sliding window",
    ),
    "capped scores": (
        Gemma2Config, FULL, "a cap on its scores"
    ),
    "states": (Qwen3NextConfig, {**MOE, "head_dim": 12}, "layers of linear_attention"),
}  # fmt: skip


@pytest.mark.parametrize(("language", "sizes", "found"), REFUSED.values(), ids=REFUSED)
def test_a_model_that_packs_would_give_other_numbers_is_refused(
    language: Any, sizes: dict[str, Any], found: str, tmp_path: Path
) -> None:
    build_internvl(tmp_path, language=language, **sizes)
    backbone, _ = backbone_of(tmp_path)
    with pytest.raises(
        TrainingError, match=rf"full attention only, which packing needs; found {found}; give --pack-to"
    ):
        read_packs(backbone.model)


def test_it_is_refused_by_the_dry_run_and_by_the_workers_and_trained_on_in_rows(
    settings: Callable[..., TrainConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "backbone"
    build_internvl(folder, use_sliding_window=True, sliding_window=8, max_window_layers=0)
    for refused in (train, trainable_backbone):
        with pytest.raises(TrainingError, match="give --pack-tokens 0"):
            refused(settings(backbone=str(folder), dry_run=True))
    assert trainable_backbone(settings(backbone=str(folder), pack_tokens=0)).folder == str(folder)
    train(settings(backbone=str(folder), pack_tokens=0, dry_run=True))
    assert "dry run: nothing was written" in capsys.readouterr().out


def test_a_window_that_is_not_used_hinders_nothing(tmp_path: Path) -> None:
    build_internvl(tmp_path, language=Qwen3MoeConfig, **MOE, sliding_window=8)
    read_packs(backbone_of(tmp_path)[0].model)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"s_aux": torch.zeros(2)}, "attention sinks"),
        ({"sliding_window": 8}, "a sliding window"),
        ({"softcap": 50.0}, "a cap on its scores"),
    ],
)
def test_attention_that_is_asked_for_what_it_does_not_compute_refuses(
    asked: dict[str, Any], found: str
) -> None:
    states = torch.zeros(1, 2, 6, 4)
    blocks = blocks_of([Extent(2, (2, 2))], torch.device("cpu"))

    def attend(**others: Any) -> torch.Tensor:
        module = torch.nn.Identity()
        return shared_prompt_attention(
            module, states, states, states, None, blocks=blocks, scaling=1.0, **others
        )[0]

    assert attend(**dict.fromkeys(asked)).shape == (1, 6, 2, 4)
    with pytest.raises(TrainingError, match=f"full attention only, .*; found {found}; give --pack-tokens 0"):
        attend(**asked)


def test_a_mask_which_would_be_ignored_is_refused() -> None:
    states = torch.zeros(1, 2, 6, 4)
    blocks = blocks_of([Extent(2, (2, 2))], torch.device("cpu"))
    mask: Any = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    with pytest.raises(TrainingError, match="a pack without an attention mask; found one"):
        shared_prompt_attention(torch.nn.Identity(), states, states, states, mask, blocks=blocks, scaling=1.0)
