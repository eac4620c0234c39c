"""The reward and its loss, against plain references."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from bisieve.errors import TrainingError
from ray_train.data.encode import Encoder, Sample, filler, make_encoder
from ray_train.model.backbone import Backbone, load_backbone, train_only
from ray_train.model.prompt_format import PromptFormat
from ray_train.model.reward import RewardModel, reward_loss, reward_model, step_rewards


def sample(row: int, steps: int, size: int = 28) -> Sample:
    image = Image.new("RGB", (size, size), (row * 40, 5, 200))
    labels = [float((row + step) % 2) for step in range(steps)]
    return Sample(
        row, [image], f"What is {row}?", [f"Step {step} of {row}." for step in range(steps)], labels
    )


SAMPLES = [sample(0, 3), sample(1, 1), sample(2, 4, size=40), sample(3, 2)]


def prepared(
    folder: Path, parts: tuple[str, ...] = ("projector", "language")
) -> tuple[Backbone, Encoder, RewardModel]:
    backbone = load_backbone(str(folder), torch.float32)
    train_only(backbone.model, backbone.family, parts)
    format = PromptFormat(
        backbone.family.image_slot(backbone.processor.tokenizer), backbone.family.image_options(1)
    )
    return backbone, make_encoder(backbone, format, 2048), reward_model(backbone, format)


def test_the_loss_equals_that_of_the_full_vocabulary_restricted_to_yes_and_no(folder: Path) -> None:
    backbone, encoder, model = prepared(folder)
    batch = encoder.encode(SAMPLES)
    loss = reward_loss(model(batch.inputs), batch.labels, batch.weights)

    tokenizer = backbone.processor.tokenizer
    yes, no, marker = tokenizer.convert_tokens_to_ids(["Yes", "No", "<prm>"])
    logits = backbone.model(**batch.inputs).logits
    expected = torch.zeros(())
    labels = iter([label for each in SAMPLES for label in each.labels])
    for row, column in (batch.inputs["input_ids"] == marker).nonzero().tolist():
        log_yes = torch.log_softmax(logits[row, column][[yes, no]].float(), 0)
        label = next(labels)
        expected = expected - (label * log_yes[0] + (1 - label) * log_yes[1])
    assert next(labels, None) is None
    torch.testing.assert_close(loss, expected)
    rewards = step_rewards(model(batch.inputs))
    assert rewards.shape == (10,)
    assert bool(((rewards > 0) & (rewards < 1)).all())


def test_the_gradients_of_micro_batches_add_up_to_those_of_the_whole_batch(folder: Path) -> None:
    _, encoder, model = prepared(folder)

    def gradients(parts: list[list[Sample]]) -> dict[str, torch.Tensor]:
        model.zero_grad()
        for part in parts:
            batch = encoder.encode(part)
            reward_loss(model(batch.inputs), batch.labels, batch.weights).backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    whole = gradients([SAMPLES])
    split = gradients([SAMPLES[:1], SAMPLES[1:], [filler()], []])
    assert whole.keys() == split.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(split[name], gradient, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "parts", [("projector", "language"), ("vision",), ("vision", "projector", "language")], ids="+".join
)
def test_exactly_the_parts_that_are_asked_for_are_trained(folder: Path, parts: tuple[str, ...]) -> None:
    backbone, encoder, model = prepared(folder, parts)
    batch = encoder.encode(SAMPLES)
    reward_loss(model(batch.inputs), batch.labels, batch.weights).backward()
    trained = {name for name, p in backbone.model.named_parameters() if p.grad is not None}
    assert {backbone.family.part_of(name) for name in trained} == set(parts)


def test_more_markers_than_labels_are_an_error(internvl: Path) -> None:
    _, encoder, model = prepared(internvl)
    shifted = Sample(0, SAMPLES[0].images, "q", ["a", "b"], [1.0])
    with pytest.raises(TrainingError, match="2 markers and 1 labels"):
        encoder.encode([shifted])
    batch = encoder.encode(SAMPLES)
    with pytest.raises(TrainingError, match="10 markers and 9 labels"):
        reward_loss(model(batch.inputs), batch.labels[:9], batch.weights[:9])


def test_a_soft_label_pulls_less_than_a_hard_one() -> None:
    logits = torch.tensor([[2.0, 0.0]])
    losses = [float(reward_loss(logits, torch.tensor([label]), torch.ones(1))) for label in (1.0, 0.5, 0.0)]
    assert losses[0] < losses[1] < losses[2]
    assert losses[1] == pytest.approx((losses[0] + losses[2]) / 2)


def test_the_marker_starts_as_the_mean_of_all_tokens_and_is_added_once(
    internvl: Path, tmp_path: Path
) -> None:
    first = load_backbone(str(internvl), torch.float32)
    rows = first.model.get_input_embeddings().weight
    marker = first.token_id("<prm>")
    torch.testing.assert_close(rows[marker], rows[:marker].mean(0))
    first.model.save_pretrained(tmp_path)
    first.processor.tokenizer.save_pretrained(tmp_path)
    first.processor.image_processor.save_pretrained(tmp_path)
    again = load_backbone(str(tmp_path), torch.float32)
    assert again.token_id("<prm>") == marker
    torch.testing.assert_close(again.model.get_input_embeddings().weight, rows)
