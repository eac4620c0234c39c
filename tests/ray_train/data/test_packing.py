"""Rollouts that share a prompt in one sequence: exactly what they are on their own."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.prompts import PARTS, PROMPTS, backbone_of, gradients

from bisieve.errors import TrainingError
from bisieve.io.images import decode_image
from ray_train.data.encode import Sample
from ray_train.data.packing import Packer, make_packer
from ray_train.model.packed_attention import read_packs
from ray_train.model.prompt_format import shared_options
from ray_train.model.reward import reward_model


def packer_of(folder: Path, budget: int, max_length: int = 4096) -> Packer:
    backbone, encoder = backbone_of(folder)
    return make_packer(backbone, replace(encoder, max_length=max_length), budget)


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_loss_and_gradient_are_those_of_one_rollout_a_row(folder: Path, parts: tuple[str, ...]) -> None:
    backbone, encoder = backbone_of(folder, parts)
    model = reward_model(backbone, encoder.format)
    alone = [encoder.encode([sample]) for prompt in PROMPTS for sample in prompt]
    expected_loss, expected = gradients(model, alone)
    read_packs(backbone.model)
    for budget in (1, 400, 4096):
        packs = list(make_packer(backbone, encoder, budget).packs(PROMPTS))
        assert sorted(row for pack in packs for row in pack.rows) == sorted(r for b in alone for r in b.rows)
        loss, found = gradients(model, packs)
        assert loss == pytest.approx(expected_loss, abs=1e-5)
        assert found.keys() == expected.keys()
        assert max(float((found[name] - expected[name]).abs().max()) for name in found) < 1e-5


@pytest.mark.parametrize(
    "question", ["Is <image> as <image>?", "Is <image2> as <image 1>?", "<image>\nSame?\n<image>"]
)
def test_images_inside_the_question_are_packed_as_in_rows(folder: Path, question: str) -> None:
    backbone, encoder = backbone_of(folder)
    options = backbone.family.image_options
    format = replace(encoder.format, in_place=True, several_image_options=shared_options(options, 2))
    encoder = replace(encoder, format=format)
    pictures = [Image.linear_gradient("L").convert("RGB").resize((size, 40)) for size in (28, 90)]
    samples = [replace(each, images=pictures, question=question) for each in PROMPTS[0]]
    prompts = [samples, PROMPTS[1]]
    model = reward_model(backbone, format)
    alone = [encoder.encode([sample]) for prompt in prompts for sample in prompt]
    expected_loss, expected = gradients(model, alone)
    read_packs(backbone.model)
    loss, found = gradients(model, list(make_packer(backbone, encoder, 4096).packs(prompts)))
    assert loss == pytest.approx(expected_loss, abs=1e-5)
    assert max(float((found[name] - expected[name]).abs().max()) for name in found) < 1e-5


def test_activations_may_be_computed_twice(internvl: Path) -> None:
    backbone, encoder = backbone_of(internvl)
    model = reward_model(backbone, encoder.format)
    read_packs(backbone.model)
    packs = list(make_packer(backbone, encoder, 4096).packs(PROMPTS))
    once = gradients(model, packs)[1]
    backbone.model.train().gradient_checkpointing_enable({"use_reentrant": False})
    twice = gradients(model, packs)[1]
    assert max(float((once[name] - twice[name]).abs().max()) for name in once) < 1e-6


def test_a_prompt_and_its_images_stand_once(folder: Path) -> None:
    packer = packer_of(folder, 4096)
    (pack,) = packer.packs([PROMPTS[0]])
    alone = [packer.reader.encoder.encode([sample]).inputs for sample in PROMPTS[0]]
    shared = pack.inputs["extents"][0].shared
    for inputs in alone:
        assert inputs["input_ids"][0, :shared].tolist() == pack.inputs["input_ids"][0, :shared].tolist()
    own = sum(inputs["input_ids"].shape[1] - shared for inputs in alone)
    assert pack.inputs["input_ids"].shape == (1, shared + own)
    for name in packer.reader.image_inputs:
        torch.testing.assert_close(pack.inputs[name], alone[0][name], rtol=0, atol=0)


def test_a_step_that_all_rollouts_begin_with_keeps_a_marker_and_a_label_for_each(internvl: Path) -> None:
    packer = packer_of(internvl, 4096)
    (pack,) = packer.packs([PROMPTS[0]])
    markers = pack.inputs["input_ids"] == packer.reader.encoder.marker_id
    assert int(markers.sum()) == len(pack.labels) == sum(len(s.steps) for s in PROMPTS[0])
    assert pack.labels.tolist() == [label for sample in PROMPTS[0] for label in sample.labels]


def test_rollouts_of_a_pack_whose_labels_are_exchanged_are_named(internvl: Path) -> None:
    packer = packer_of(internvl, 4096)
    named = [[replace(s, name=f"rollout-{s.row}") for s in prompt] for prompt in PROMPTS]
    list(packer.packs(named))
    tokens = [packer.reader.read(prompt) for prompt in named]
    own = replace(tokens[0], rollouts=[tokens[0].rollouts[k] for k in (1, 0, 2, 3)])
    with pytest.raises(TrainingError, match="labels in rollout rollout-0; found 2 markers and 1 labels"):
        list(packer.packed([own, *tokens[1:]]))
    first, second = tokens[0].samples[2], tokens[1].samples[0]  # of a prompt with others, and of one alone
    assert len(first.labels) != len(second.labels)
    swapped = [replace(tokens[0], samples=[*tokens[0].samples[:2], second, tokens[0].samples[3]]),
               replace(tokens[1], samples=[first])]  # fmt: skip
    with pytest.raises(TrainingError, match=f"labels in rollout {second.name}"):
        list(packer.packed(swapped))


def test_packs_stay_in_the_budget_but_for_a_rollout_that_is_longer(internvl: Path) -> None:
    lengths = [p.inputs["input_ids"].shape[1] for p in packer_of(internvl, 1).packs(PROMPTS)]
    assert len(lengths) == sum(map(len, PROMPTS)), "each has a pack to itself"
    budget = max(lengths) + 1
    packs = list(packer_of(internvl, budget).packs(PROMPTS))
    assert all(pack.inputs["input_ids"].shape[1] <= budget for pack in packs)
    assert 1 < len(packs) < len(lengths)
    assert [row for pack in packs for row in pack.rows] == [s.row for prompt in PROMPTS for s in prompt]


def test_rollouts_are_shortened_and_skipped_as_in_rows(folder: Path) -> None:
    backbone, encoder = backbone_of(folder)
    long = [
        Sample(row, PROMPTS[0][0].images, question, ["A step."] * steps, [1.0] * steps)
        for row, (steps, question) in enumerate([(1, "Why?"), (9, "Why?"), (2, "Why? " * 99), (1, "<prm>")])
    ]
    limit = encoder.encode(long[:2]).inputs["input_ids"].shape[1] - 1
    limited = replace(encoder, max_length=limit)
    rows = limited.encode(long)
    (pack,) = make_packer(backbone, limited, 4096).packs([long[:2], long[2:]])
    assert (pack.shortened, pack.skipped) == (rows.shortened, rows.skipped) == (1, 2)
    assert (pack.rows, pack.labels.tolist()) == (rows.rows, rows.labels.tolist())


def test_transparent_images_and_unclear_places_are_counted_in_packs_as_in_rows(folder: Path) -> None:
    backbone, encoder = backbone_of(folder)
    encoder = replace(encoder, format=replace(encoder.format, in_place=True))
    file = io.BytesIO()
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(file, "png")
    clear = decode_image(file.getvalue(), "clear.png")
    unclear = [replace(each, images=[clear], question="Is <image 2> it?") for each in PROMPTS[0]]
    prompts = [unclear, PROMPTS[1]]
    rows = encoder.encode([sample for prompt in prompts for sample in prompt])
    (pack,) = make_packer(backbone, encoder, 4096).packs(prompts)
    assert (pack.transparent, pack.unclear) == (rows.transparent, rows.unclear) == (1, len(unclear))


def test_without_rollouts_there_is_a_pack_that_weighs_nothing(folder: Path) -> None:
    backbone, encoder = backbone_of(folder)
    (pack,) = make_packer(backbone, encoder, 4096).packs([])
    read_packs(backbone.model)
    loss, found = gradients(reward_model(backbone, encoder.format), [replace(pack, weights=pack.weights + 1)])
    assert (pack.rows, pack.weights.tolist()) == ([], [0.0])
    assert loss > 0
    assert found
