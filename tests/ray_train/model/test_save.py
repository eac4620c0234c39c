"""A model gets to a store that fails, and is visible whole or not at all."""

import json
from pathlib import Path

import pytest
import torch
from support.faulty_proxy import FaultyProxy

from bisieve.errors import StorageError
from bisieve.io import storage
from ray_train.model.backbone import Backbone, load_backbone
from ray_train.model.metadata import CARD
from ray_train.model.save import Weights, publish_model


@pytest.fixture
def backbone(internvl: Path) -> Backbone:
    return load_backbone(str(internvl), torch.float32)


@pytest.fixture
def weights(backbone: Backbone) -> Weights:
    return dict(backbone.model.state_dict())


def test_a_model_gets_to_a_store_that_fails_again_and_again_and_its_rank_shows_that_it_comes_on(
    s3: str, faulty_s3: FaultyProxy, backbone: Backbone, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = f"{s3}/published/model"
    publish_model(backbone, weights, {"run": "before"}, output)
    faulty_s3.calm()
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # of the layers below: no patience of their own
    faulty_s3.harm_first_puts("safetensors", "/config.json")
    came_on: list[None] = []
    publish_model(
        backbone, weights, {"run": "after"}, output, budget=60, progress=lambda: came_on.append(None)
    )
    assert set(faulty_s3.faults()) == {"503", "reset"}
    put = [passed.path for passed in faulty_s3.passed if passed.method == "PUT" and not passed.fault]
    assert "/config.json" in put[-1]
    assert len(came_on) > len(put), "each file, and that they were made"
    faulty_s3.calm()
    assert json.loads(storage.read_bytes(f"{output}/{CARD}")) == {"run": "after"}


def test_a_model_that_a_store_refuses_past_the_budget_is_an_error_and_none_is_visible(
    s3: str, faulty_s3: FaultyProxy, backbone: Backbone, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    faulty_s3.harm(1.0, ["reset"], only=lambda method, path: method in ("PUT", "POST"))
    with pytest.raises(StorageError, match="a response from the store"):
        publish_model(backbone, weights, {"run": "r"}, f"{s3}/refused/model", budget=0)
    faulty_s3.calm()
    assert not storage.exists(f"{s3}/refused/model/config.json")
