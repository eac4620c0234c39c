"""Counted tokens against those that training makes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection
from ray_train.config import TrainConfig
from ray_train.data.encode import make_encoder
from ray_train.data.images import ImageReader
from ray_train.data.labels import targets_of
from ray_train.data.loader import RankLoader
from ray_train.data.packing import make_packer
from ray_train.data.sampler import BatchPlan, prompts_of
from ray_train.estimates import sample
from ray_train.estimates.sample import sampled_tokens
from ray_train.model.backbone import load_backbone
from ray_train.model.prompt_format import format_of
from ray_train.model.skeleton import load_skeleton

Settings = Callable[..., TrainConfig]


@pytest.mark.parametrize("pack_tokens", [0, 200], ids=["rows", "packs"])
def test_counted_tokens_are_those_that_training_makes(
    pack_tokens: int, settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(
        backbone=str(folder), max_tiles=4, max_length=90, pack_tokens=pack_tokens, system="none"
    )
    selection = read_selection(open_index(config.index), 1.0)
    plan = BatchPlan(selection.fingerprint, selection.rows.num_rows, (), 0, 1, 6, prompts_of(selection), True)
    targets = targets_of(selection, config)
    monkeypatch.setattr(sample, "SAMPLE", 6)
    found = sampled_tokens(config, selection, plan, targets, load_skeleton(str(folder), []))

    backbone = load_backbone(str(folder), torch.float32)
    encoder = make_encoder(backbone, format_of(backbone.family, backbone.processor.tokenizer, 4, "none"), 90)
    packer = make_packer(backbone, encoder, pack_tokens) if pack_tokens else None
    feed = RankLoader(
        selection, plan, encoder, packer, ImageReader(config.image_root), targets, config.micro_batch, 0, 2
    )
    batches = []
    for batch in feed.batches(0):
        batches.append(batch)
        if batch.last and sum(len(b.rows) for b in batches) >= 6:
            break
    assert found.rollouts == sum(len(batch.rows) for batch in batches) >= 6
    sizes = [batch.inputs["input_ids"].numel() for batch in batches if batch.rows]
    assert (found.tokens, found.longest) == (sum(sizes), max(sizes))
    assert found.shortened == sum(batch.shortened for batch in batches)
    assert found.skipped == sum(batch.skipped for batch in batches)
    assert found.image_tokens > 0
