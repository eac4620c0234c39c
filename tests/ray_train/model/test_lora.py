"""Adapters: what learns, what is published, and a whole run with them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.backbones import build_internvl, build_qwen
from support.hub_checkpoints import set_flags
from support.prompts import PROMPTS, backbone_of, gradients
from support.runs import learned_weights, small_run
from support.small_corpus import Corpus
from transformers import Qwen3MoeConfig

from bisieve.errors import TrainingError
from bisieve.records.prompt import MARKER
from ray_train.config import TrainConfig
from ray_train.data.encode import Encoder
from ray_train.data.packing import make_packer
from ray_train.estimates.flops import model_cost
from ray_train.evaluation.config import EvaluateConfig
from ray_train.evaluation.evaluate import evaluate
from ray_train.model.backbone import Backbone
from ray_train.model.lora import add_adapters
from ray_train.model.metadata import read_card
from ray_train.model.packed_attention import read_packs
from ray_train.model.reward import RewardModel, reward_loss, reward_model
from ray_train.model.save import gather_weights, save_model
from ray_train.model.skeleton import parameters
from ray_train.training.driver import train

NOWHERE: dict[str, Any] = {"index": "", "image_root": "", "backbone": "", "output": ""}
CONFIG = TrainConfig(**NOWHERE, lora_rank=4, lora_alpha=8, learning_rate=1e-2)


def adapted(folder: Path, config: TrainConfig = CONFIG) -> tuple[Backbone, Encoder, RewardModel]:
    backbone, encoder = backbone_of(folder, tuple(config.trained_parts))
    add_adapters(backbone, config)
    return backbone, encoder, reward_model(backbone, encoder.format)


def trained_in_place(model: RewardModel, encoder: Encoder) -> None:
    """Two steps of SGD, so that no adapter is at its start any more."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(2):
        batch = encoder.encode(PROMPTS[0])
        reward_loss(model(batch.inputs), batch.labels, batch.weights).backward()
        optimizer.step()
        optimizer.zero_grad()


def test_only_adapters_the_projector_and_the_row_of_the_marker_are_trained(folder: Path) -> None:
    backbone, encoder, model = adapted(folder)
    gradients_of = gradients(model, [encoder.encode(PROMPTS[0])])[1]
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert gradients_of.keys() == trained
    names = {name.removeprefix("backbone.") for name in trained}
    language = {name for name in names if backbone.family.part_of(name) == "language"}
    assert {backbone.family.part_of(name) for name in names - language} == {"projector"}
    (row,) = {name for name in language if ".lora_" not in name}
    assert backbone.model.get_parameter(row).shape == (1, 48)
    layers = backbone.model.config.text_config.num_hidden_layers
    assert len(language) - 1 == 2 * 7 * layers, "A and B of q, k, v, o, gate, up and down"
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) < frozen / 2


def test_before_the_first_step_adapters_change_nothing_and_are_the_same_everywhere(folder: Path) -> None:
    backbone, encoder = backbone_of(folder)
    batch = encoder.encode(PROMPTS[0])
    plain = reward_model(backbone, encoder.format)(batch.inputs)
    _, _, model = adapted(folder)
    torch.testing.assert_close(model(batch.inputs), plain, rtol=0, atol=0)
    torch.manual_seed(5)  # what was drawn before does not count
    drawn = [dict(adapted(folder, c)[2].named_parameters()) for c in (CONFIG, replace(CONFIG, seed=1))]
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, drawn[0][name])
        assert torch.equal(parameter, drawn[1][name]) == ("lora_A" not in name)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_the_published_folder_is_a_plain_model_with_the_same_outputs(tied: bool, tmp_path: Path) -> None:
    build_internvl(tmp_path / "backbone", tied)
    check_published(tmp_path / "backbone", tmp_path / "model")


def test_a_head_of_its_own_stays_where_the_config_says_nothing_of_a_tie(tmp_path: Path) -> None:
    before, after = tmp_path / "backbone", tmp_path / "model"
    build_internvl(before, tied=False)
    set_flags(before, None, None)
    check_published(before, after)
    old, new = (
        load_file(folder / "model.safetensors")["language_model.lm_head.weight"] for folder in (before, after)
    )
    assert len(new) > len(old), "a row for the marker"
    assert torch.equal(new[: len(old)], old)


@pytest.mark.parametrize("family", ["qwen", "qwen3"])
def test_so_it_is_in_the_other_families(family: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    check_published(request.getfixturevalue(family), tmp_path)


def check_published(folder: Path, output: Path) -> None:
    backbone, encoder, model = adapted(folder)
    trained_in_place(model, encoder)
    batch = encoder.encode(PROMPTS[2])
    output.mkdir(exist_ok=True)
    save_model(backbone, gather_weights(model.backbone, 0), {}, output)
    _, report = type(backbone.model).from_pretrained(output, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert load_file(output / "model.safetensors").keys() == load_file(folder / "model.safetensors").keys()
    again, _ = backbone_of(output)
    found = reward_model(again, encoder.format)(batch.inputs)
    assert float((found - model(batch.inputs)).abs().max().detach()) < 1e-5
    start, _ = backbone_of(folder)
    marker = again.token_id(MARKER)
    rows, before = (each.model.get_input_embeddings().weight for each in (again, start))
    changed = [row for row in range(len(rows)) if not torch.equal(rows[row], before[row])]
    assert changed == [marker], "of the embeddings the marker's row alone has learned"


def test_packs_give_adapters_the_gradients_of_one_rollout_a_row(folder: Path) -> None:
    backbone, encoder, model = adapted(folder)
    trained_in_place(model, encoder)
    expected = gradients(model, [encoder.encode([sample]) for prompt in PROMPTS for sample in prompt])[1]
    read_packs(backbone.model)
    found = gradients(model, list(make_packer(backbone, encoder, 4096).packs(PROMPTS)))[1]
    assert found.keys() == expected.keys()
    assert max(float((found[name] - expected[name]).abs().max()) for name in found) < 1e-5


def test_experts_beside_which_no_adapter_would_be_are_refused_by_name(tmp_path: Path) -> None:
    sizes = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    build_internvl(tmp_path, language=Qwen3MoeConfig, **sizes)
    with pytest.raises(
        TrainingError, match=r"found 6 other weights, such as .*\.0\.mlp\..*; leave out --lora"
    ):
        adapted(tmp_path)


def test_dropout_is_heard_in_training_alone(internvl: Path) -> None:
    _, encoder, model = adapted(internvl, replace(CONFIG, lora_dropout=0.5))
    trained_in_place(model, encoder)
    batch = encoder.encode(PROMPTS[0])
    assert torch.equal(model.eval()(batch.inputs), model(batch.inputs))
    model.train()
    torch.manual_seed(0)
    once = model(batch.inputs)
    assert not torch.equal(once, model(batch.inputs))
    torch.manual_seed(0)
    assert torch.equal(once, model(batch.inputs))


def test_activations_of_adapters_may_be_computed_twice(internvl: Path) -> None:
    _, encoder, model = adapted(internvl)
    batches = [encoder.encode(PROMPTS[0])]
    once = gradients(model.train(), batches)[1]
    model.backbone.gradient_checkpointing_enable({"use_reentrant": False})
    twice = gradients(model, batches)[1]
    assert max(float((once[name] - twice[name]).abs().max()) for name in once) < 1e-6


def test_a_run_of_qwen_under_zero_3_is_published_and_evaluated(
    ray_cluster: None, corpus: Corpus, tmp_path: Path
) -> None:
    # Embeddings, head, MLP and their adapters are larger than what ZeRO-3 keeps whole on every rank.
    build_qwen(tmp_path / "backbone", vocab_size=4096, intermediate_size=2560)
    output = tmp_path / "output"
    options = {"zero_stage": 3, "lora_rank": 48, "lora_dropout": 0.1}
    config = TrainConfig(**{**small_run(corpus, tmp_path / "backbone", str(output)), **options})
    train(config)
    before, after = load_file(tmp_path / "backbone" / "model.safetensors"), learned_weights(str(output))
    assert before.keys() == after.keys()
    changed = {name for name, tensor in before.items() if not torch.equal(after[name], tensor)}
    for name in before:
        has_marker = "embed_tokens" in name or "lm_head" in name
        learns = has_marker or "merger" in name or "_proj.weight" in name
        assert (name in changed) == (learns and "visual.blocks" not in name), name
    card = read_card(str(output))
    assert card is not None
    for name in ("lm_head", "embed_tokens"):
        (matrix,) = (key for key in before if name in key)
        rows = (after[matrix] != before[matrix]).any(dim=1).nonzero().flatten().tolist()
        assert rows == [card["token_ids"][MARKER]]
    assert card["config"]["lora_rank"] == 48
    report = evaluate(
        EvaluateConfig(
            model=str(output), benchmark=corpus.benchmark, image_root=corpus.images,
            output=str(tmp_path / "metrics"),
        )
    )  # fmt: skip
    assert report["trained"] is True
    assert report["unscored_steps"] == 0


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_step_costs_what_it_costs_without_adapters_and_the_adapters(tied: bool, tmp_path: Path) -> None:
    build_internvl(tmp_path / "backbone", tied)
    backbone, _ = backbone_of(tmp_path / "backbone")
    plain = model_cost(backbone).language
    add_adapters(backbone, CONFIG)
    own = sum(p.numel() for name, p in backbone.model.named_parameters() if ".lora_" in name)
    assert model_cost(backbone).language.weights == plain.weights + own
    assert model_cost(backbone).language.trained == own
    assert parameters(backbone, trained=True)["language"] < parameters(backbone)["language"] / 2
