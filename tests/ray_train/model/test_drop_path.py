"""Stochastic depth in the vision encoder: what is skipped, how often, and what it does not depend on."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bisieve.errors import TrainingError
from ray_train.model.backbone import Backbone, load_backbone
from ray_train.model.drop_path import DropPath, add_drop_path, tile_names


@pytest.fixture
def load(internvl: Path) -> Callable[[], Backbone]:
    """An InternVL with three layers in its vision encoder."""

    def load() -> Backbone:
        backbone = load_backbone(str(internvl), torch.float32)
        layers = backbone.model.model.vision_tower.encoder.layer
        layers.extend(copy.deepcopy(layers[0]) for _ in range(2))
        return backbone

    return load


def pixels_of(backbone: Backbone, tiles: int) -> torch.Tensor:
    height, width = backbone.model.config.vision_config.image_size
    return torch.rand(tiles, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_a_tile_is_drawn_as_often_as_the_rate_says_and_the_mean_stays() -> None:
    drop = DropPath(0)
    drop.tiles = tile_names(torch.rand(20_000, 5, generator=torch.Generator().manual_seed(0)))
    for branch, rate in enumerate((0.1, 0.4)):
        factors = drop.factors(branch, rate)
        assert float((factors == 0).float().mean()) == pytest.approx(rate, abs=0.015)
        assert set(factors.tolist()) == {0.0, torch.tensor(1 / (1 - rate)).item()}
        assert float(factors.mean()) == pytest.approx(1, abs=0.02)
    same = drop.factors(0, 0.4)
    assert (drop.factors(0, 0.4) == same).all()
    others = [drop.factors(1, 0.4)]
    drop.step = 1
    others.append(drop.factors(0, 0.4))
    drop.step, drop.seed = 0, 1
    others.append(drop.factors(0, 0.4))
    for other in others:  # 0.4² + 0.6² of independent draws agree
        assert float((same == other).float().mean()) == pytest.approx(0.52, abs=0.02)


@torch.no_grad()
def test_a_dropped_branch_leaves_the_hidden_states_and_a_kept_one_is_scaled(
    load: Callable[[], Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load()
    pixels = pixels_of(backbone, 3)
    add_drop_path(backbone, 0.5, 0)
    tower = backbone.model.model.vision_tower.train()
    layer = tower.encoder.layer[-1]
    kept = torch.tensor([0.0, 2.0, 2.0])
    monkeypatch.setattr(DropPath, "factors", lambda self, branch, rate: kept)
    seen: dict[str, torch.Tensor] = {}
    layer.register_forward_hook(lambda m, args, out: seen.update(
        before=args[0], after=out[0] if isinstance(out, tuple) else out))  # fmt: skip
    tower(pixel_values=pixels)
    before, factor = seen["before"], kept[:, None, None]
    attention, _ = layer.attention.forward(layer.layernorm_before(before))
    middle = before + factor * layer.lambda_1 * attention
    expected = middle + factor * layer.lambda_2 * layer.mlp.forward(layer.layernorm_after(middle))
    torch.testing.assert_close(seen["after"], expected)
    assert (seen["after"][0] == before[0]).all()


@torch.no_grad()
def test_it_acts_in_training_alone_and_never_on_the_first_layer(load: Callable[[], Backbone]) -> None:
    plain, dropped = load(), load()
    pixels = pixels_of(plain, 8)
    drop = add_drop_path(dropped, 0.9, 0)
    before, after = (each.model.model.vision_tower for each in (plain, dropped))
    expected = before.eval()(pixel_values=pixels).last_hidden_state
    assert (after.eval()(pixel_values=pixels).last_hidden_state == expected).all()
    first: list[torch.Tensor] = []
    for tower in (before, after):
        tower.encoder.layer[0].register_forward_hook(
            lambda m, a, out: first.append(out[0] if isinstance(out, tuple) else out)
        )
    before.train()(pixel_values=pixels)
    assert (after.train()(pixel_values=pixels).last_hidden_state != expected).any()
    assert (first[0] == first[1]).all()
    assert drop.tiles.shape == (8,)
    assert plain.model.state_dict().keys() == dropped.model.state_dict().keys(), "what is published stays"


@torch.no_grad()
def test_a_tile_is_read_alike_beside_whatever_others(load: Callable[[], Backbone]) -> None:
    backbone = load()
    add_drop_path(backbone, 0.6, 3)
    tower, pixels = backbone.model.model.vision_tower.train(), pixels_of(backbone, 6)
    together = tower(pixel_values=pixels).last_hidden_state
    alone = [tower(pixel_values=pixels[k : k + 1]).last_hidden_state for k in (5, 0, 3)]
    torch.testing.assert_close(torch.cat(alone), together[[5, 0, 3]], rtol=1e-5, atol=1e-6)


def test_a_layer_that_is_computed_twice_is_drawn_alike(load: Callable[[], Backbone]) -> None:
    gradients = []
    for twice in (False, True):
        backbone = load()
        add_drop_path(backbone, 0.6, 3)
        backbone.model.train()
        if twice:
            backbone.model.gradient_checkpointing_enable({"use_reentrant": False})
        tower = backbone.model.model.vision_tower
        tower(pixel_values=pixels_of(backbone, 6)).last_hidden_state.square().sum().backward()
        gradients.append(tower.encoder.layer[0].mlp.fc1.weight.grad)
    torch.testing.assert_close(*gradients)


def test_a_family_without_tiles_is_refused_and_what_to_give_is_named(qwen: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"an InternVL backbone for --drop-path .*qwen2_5_vl; give --drop-path 0"
    ):
        add_drop_path(load_backbone(str(qwen), torch.float32), 0.4, 0)
