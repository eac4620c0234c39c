"""The reward and its losses against plain references, that of counts against SciPy."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from scipy.stats import betabinom

from bisieve.errors import TrainingError
from ray_train.data.encode import Encoder, Sample, filler, make_encoder
from ray_train.data.packing import make_packer
from ray_train.model.backbone import Backbone, load_backbone, train_only
from ray_train.model.packed_attention import read_packs
from ray_train.model.prompt_format import PromptFormat
from ray_train.model.reward import (
    KAPPA_INIT,
    Batch,
    KappaHead,
    RewardModel,
    beta_binomial_loss,
    load_kappa,
    loss_of,
    reward_loss,
    reward_model,
    step_rewards,
)
from ray_train.training.optimizer import adamw


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


TOTALS = [16, 16, 16, 5, 1, 0, 1000]
RIGHT = [0, 16, 7, 2, 1, 0, 333]


def answers_of(steps: int = len(TOTALS)) -> torch.Tensor:
    """Logits from all but sure to very sure, and κ from next to nothing to very much."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(steps, 2, generator=generator) * 4
    return torch.column_stack([logits, torch.logspace(-3, 4, steps)])


def loss_on(answers: torch.Tensor, weights: torch.Tensor, evidence_weight: float = 0.0) -> torch.Tensor:
    labels = torch.tensor([k / max(n, 1) for k, n in zip(RIGHT, TOTALS, strict=True)])
    return beta_binomial_loss(answers, labels, torch.tensor(TOTALS), weights, evidence_weight)


def test_the_likelihood_is_scipys() -> None:
    answers = answers_of()
    mean, kappa = answers[:, :2].double().softmax(dim=1).numpy(), answers[:, 2].double().numpy()
    for step in range(len(TOTALS)):
        alpha, beta = mean[step] * kappa[step] + 1e-6
        expected = -betabinom.logpmf(RIGHT[step], TOTALS[step], alpha, beta)
        only = torch.zeros(len(TOTALS))
        only[step] = 2.0
        assert float(loss_on(answers, only)) == pytest.approx(2 * expected, rel=1e-5, abs=1e-6)


def test_the_evidence_term_is_lambda_times_the_miss_times_kappa_and_moves_kappa_alone() -> None:
    answers, ones = answers_of().requires_grad_(), torch.ones(len(TOTALS))
    evidence = loss_on(answers, ones, evidence_weight=0.05) - loss_on(answers, ones)
    evidence.backward()
    mean = answers.detach()[:, :2].softmax(dim=1)[:, 0]
    missed = (mean - torch.tensor([k / max(n, 1) for k, n in zip(RIGHT, TOTALS, strict=True)])).abs()
    assert float(evidence.detach()) == pytest.approx(
        0.05 * float((missed * answers.detach()[:, 2]).sum()), rel=1e-3
    )
    assert answers.grad is not None
    torch.testing.assert_close(answers.grad[:, 2], 0.05 * missed, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(answers.grad[:, :2], torch.zeros(len(TOTALS), 2), rtol=0, atol=1e-4)


def test_the_gradient_is_that_of_the_loss() -> None:
    weights = torch.rand(len(TOTALS), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    answers = answers_of().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda answers: loss_on(answers, weights), answers, rtol=1e-3)


def test_a_step_without_counts_changes_nothing_whatever_is_answered() -> None:
    answers = answers_of().requires_grad_()
    known = torch.tensor([float(n > 0) for n in TOTALS])
    loss_on(answers, known, evidence_weight=0.05).backward()
    assert answers.grad is not None
    assert answers.grad[5].tolist() == [0.0, 0.0, 0.0]
    assert all(row.abs().sum() > 0 for step, row in enumerate(answers.grad) if step != 5)


def test_answers_without_a_label_or_a_count_each_are_an_error() -> None:
    answers, labels, totals, ones = answers_of(3), torch.ones(3), torch.ones(3), torch.ones(3)
    with pytest.raises(TrainingError, match="3 markers and 2 labels"):
        beta_binomial_loss(answers, labels[:2], totals, ones, 0.05)
    with pytest.raises(TrainingError, match="3 markers and 2 labels"):
        beta_binomial_loss(answers, labels, totals[:2], ones, 0.05)


def weighed_prompts() -> list[list[Sample]]:
    """Rollouts of two prompts with weights, and with steps whose counts are unknown."""
    prompts = []
    for prompt in range(2):
        image = Image.linear_gradient("L").convert("RGB").resize((28 + 30 * prompt, 40))
        prompts.append([
            Sample(
                10 * prompt + k, [image], f"What is {prompt}?",
                [f"Step {step} is {k}." for step in range(k + 1)],
                [(k + step) % 5 / 4 for step in range(k + 1)], weight=0.5 + k,
                totals=[4 * ((k + step) % 3) for step in range(k + 1)],
            )
            for k in range(3)
        ])  # fmt: skip
    return prompts


def all_gradients(
    model: RewardModel, batches: list[Batch], objective: str, settings: object
) -> tuple[float, dict[str, torch.Tensor]]:
    loss = loss_of(settings(objective=objective))  # type: ignore[operator]
    total = sum((loss(model(batch.inputs), batch) for batch in batches), torch.zeros(()))
    total.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return float(total.detach()), found


@pytest.mark.parametrize("objective", ["soft", "beta-binomial"])
def test_with_weights_a_pack_learns_what_its_rollouts_learn_on_their_own(
    objective: str, internvl: Path, settings: object
) -> None:
    backbone = load_backbone(str(internvl), torch.float32)
    format = PromptFormat(
        backbone.family.image_slot(backbone.processor.tokenizer), backbone.family.image_options(1)
    )
    encoder = make_encoder(backbone, format, 4096)
    model = reward_model(backbone, format, with_kappa=objective == "beta-binomial")
    if model.kappa is not None:
        torch.nn.init.normal_(model.kappa.weight, generator=torch.Generator().manual_seed(0))
    prompts = weighed_prompts()
    if objective == "soft":
        prompts = [[replace(sample, totals=None) for sample in prompt] for prompt in prompts]
    alone = [encoder.encode([sample]) for prompt in prompts for sample in prompt]
    expected_loss, expected = all_gradients(model, alone, objective, settings)
    read_packs(backbone.model)
    packs = list(make_packer(backbone, encoder, 4096).packs(prompts))
    assert len(packs) == 1
    assert sum(float(b.weights.sum()) for b in alone) == pytest.approx(float(packs[0].weights.sum()))
    loss, found = all_gradients(model, packs, objective, settings)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-4, rtol=1e-3)


def test_kappa_begins_at_its_first_value_and_learns_at_its_own_rate(internvl: Path, settings: object) -> None:
    backbone = load_backbone(str(internvl), torch.float32)
    model = reward_model(backbone, PromptFormat("<IMG>", {}), with_kappa=True)
    assert model.kappa is not None
    torch.testing.assert_close(model.kappa(torch.randn(3, 48)), torch.full((3,), KAPPA_INIT))
    groups = adamw(model, settings(kappa_rate=7.0)).param_groups  # type: ignore[operator]
    shapes = {(g["rate_factor"], g["weight_decay"]): [tuple(p.shape) for p in g["params"]] for g in groups}
    assert shapes[7.0, 0.05] == [(1, 48)]
    assert sorted(shapes[7.0, 0.0]) == [(1,), (48,), (48,)]
    assert {factor for factor, _ in shapes} == {1.0, 7.0}


def test_risk_takes_standard_deviations_of_the_beta_off_the_mean() -> None:
    answers = torch.tensor([[0.0, 0.0, 3.0], [0.0, 0.0, 24.0]])
    assert step_rewards(answers).tolist() == [0.5, 0.5]
    assert step_rewards(answers, risk=0.5).tolist() == pytest.approx([0.5 - 0.125, 0.5 - 0.05])


@pytest.mark.parametrize("content", [None, b"", b"no safetensors"])
def test_a_head_that_cannot_be_read_is_named(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "kappa.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(TrainingError, match=r"the κ head of the model in .*kappa\.safetensors"):
        load_kappa(KappaHead(48), file)
