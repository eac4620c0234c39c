"""Validation in a whole run, against the published model on the held-out rollouts."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xxhash
from sklearn.metrics import f1_score
from support.runs import last_checkpoint
from support.sample_logs import read_sample_logs
from support.small_corpus import ROLLOUTS, Corpus

from bisieve.errors import ImageError, TrainingError
from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection
from bisieve.shards.fetch import fetch_rollouts
from ray_train.config import TrainConfig
from ray_train.data.encode import Sample, make_encoder
from ray_train.data.images import ImageReader
from ray_train.data.labels import Targets, targets_of
from ray_train.data.loader import RankLoader
from ray_train.data.packing import make_packer
from ray_train.data.sampler import BatchPlan, prompts_of, validation_split
from ray_train.model.backbone import load_backbone
from ray_train.model.metadata import read_card
from ray_train.model.packed_attention import read_packs
from ray_train.model.prompt_format import PromptFormat
from ray_train.model.reward import loss_of, reward_loss, reward_model, step_rewards
from ray_train.training.driver import train
from ray_train.training.validation import (
    Validated,
    counted_macro_f1,
    validate,
    validation_loader,
    validation_plan,
)

Settings = Callable[..., TrainConfig]


def sklearn_macro_f1(right: np.ndarray, found: np.ndarray) -> float:
    return float(f1_score(right, found, labels=[False, True], average="macro", zero_division=0.0))


LINE = re.compile(
    r"validation after step (\d+): loss ([\d.]+)  macro-F1 ([\d.]+)  \((\d+) steps of (\d+) roll"
)


def test_a_run_validates_on_prompts_that_it_never_trains_on(
    settings: Settings, ray_cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(
        zero_stage=3, validation_fraction=0.3, validate_every=4, deterministic=True,
        gradient_checkpointing=True,
    )  # fmt: skip
    train(config)
    lines = [LINE.match(line) for line in capsys.readouterr().out.splitlines()]
    selection = read_selection(open_index(config.index), 1.0)
    held = validation_split(selection, 0.3, config.seed, ())
    plan = BatchPlan(
        selection.fingerprint, selection.rows.num_rows, (), 0, 1, 6, prompts_of(selection), True, held
    )
    found = [line for line in lines if line]
    assert [int(line[1]) for line in found] == [4, plan.total_steps]
    assert {int(line[5]) for line in found} == {len(held)}

    logs = read_sample_logs(last_checkpoint(config.output))
    trained = [row for log in logs for row in log["rows"]]
    assert sorted(trained) == sorted(set(range(sum(ROLLOUTS.values()))) - set(held))
    card = read_card(config.output)
    assert card is not None
    assert card["held_out"] == len(held)
    loss, f1, steps = published_on(config, plan)
    assert card["metrics"]["validation_loss"] == pytest.approx(loss, rel=1e-4)
    assert card["metrics"]["validation_f1"] == pytest.approx(f1)
    assert float(found[-1][2]) == pytest.approx(loss, abs=1e-4)
    assert int(found[-1][4]) == steps


def published_on(config: TrainConfig, plan: BatchPlan) -> tuple[float, float, int]:
    """Loss, F1 and steps of the published model on the held-out rows, one rollout at a time."""
    backbone = load_backbone(config.output, torch.float32)
    format = PromptFormat(
        backbone.family.image_slot(backbone.processor.tokenizer), backbone.family.image_options(1)
    )
    encoder = make_encoder(backbone, format, config.max_length)
    selection = read_selection(open_index(config.index), 1.0)
    targets = targets_of(selection, config)
    feed = RankLoader(
        selection, validation_plan(plan), encoder, None, ImageReader(config.image_root), targets, 1, 0, 1
    )
    model = reward_model(backbone, format).eval()
    loss, rewards, labels = 0.0, [], []
    with torch.no_grad():
        for batch in feed.batches(0):
            if batch.rows:
                logits = model(batch.inputs)
                loss += float(reward_loss(logits, batch.labels, batch.weights))
                rewards += step_rewards(logits).tolist()
                labels += batch.labels.tolist()
    return loss / len(labels), sklearn_macro_f1(np.array(labels) > 0, np.array(rewards) >= 0.5), len(labels)


@pytest.mark.parametrize("packed", [True, False], ids=["packs", "rows"])
@pytest.mark.parametrize("objective", ["soft", "beta-binomial"])
def test_validation_weighs_rollouts_and_knows_counts_as_training_does(
    objective: str, packed: bool, counted_corpus: Corpus, internvl: Path, settings: Settings, alone: None
) -> None:
    config = settings(objective=objective, index=counted_corpus.index, label_threshold=0.3)
    selection = read_selection(open_index(config.index), 1.0)
    weights = np.arange(selection.rows.num_rows) % 3 / 1.0  # some weigh nothing
    targets = Targets(selection.rows, weights, objective, config.label_threshold)
    held = validation_split(selection, 0.4, 0, ())
    plan = BatchPlan(
        selection.fingerprint, selection.rows.num_rows, (), 0, 1, 6, prompts_of(selection), True, held
    )
    backbone = load_backbone(str(internvl), torch.float32)
    slot = backbone.family.image_slot(backbone.processor.tokenizer)
    format = PromptFormat(slot, backbone.family.image_options(1))
    encoder = make_encoder(backbone, format, config.max_length)
    model = reward_model(backbone, format, with_kappa=objective == "beta-binomial")
    if model.kappa is not None:  # as it begins it is the same for every step
        torch.nn.init.normal_(model.kappa.weight, generator=torch.Generator().manual_seed(0))
    images = ImageReader(config.image_root)

    loss, mass, right, found, prompts = 0.0, 0.0, [], [], []
    with torch.no_grad():
        for row in held:
            (rollout,) = fetch_rollouts(selection.rows.slice(row, 1), selection.shards)
            pictures = [images.read(name).decode() for name in rollout.images]
            target = targets.of(row)
            batch = encoder.encode([Sample(row, pictures, rollout.question, rollout.steps, *target)])
            answers = model.eval()(batch.inputs)
            loss += float(loss_of(config)(answers, batch))
            for label, n, reward in zip(
                target.labels, target.totals or [1] * len(target.labels), step_rewards(answers).tolist(),
                strict=True,
            ):  # fmt: skip
                mass += target.weight * (n > 0)
                if target.weight and n:
                    right.append(label > 0.3)
                    found.append(reward >= 0.5)
                    prompts.append(selection.rows["question_id"][row].as_py())
    expected = sklearn_macro_f1(np.array(right), np.array(found))

    if packed:
        read_packs(backbone.model)
    packer = make_packer(backbone, encoder, 300) if packed else None
    feed = validation_loader(RankLoader(selection, plan, encoder, packer, images, targets, 2, 0, 1))
    result = validate(model, feed, loss_of(config), config.label_threshold, torch.device("cpu"))
    assert 0 < len(right) < sum(len(targets.of(row).labels) for row in held)
    assert (result.steps, result.rollouts) == (len(right), len(held))
    assert result.loss == pytest.approx(loss / mass, rel=1e-4)
    assert result.f1 == pytest.approx(expected)
    assert result.f1_interval == pytest.approx(f1_interval(prompts, right, found))
    assert result.f1_interval[0] <= result.f1 <= result.f1_interval[1]


def f1_interval(prompts: list[str], right: list[bool], found: list[bool]) -> tuple[float, float]:
    """The interval from a list of steps, each repeated as often as a resample draws its prompt."""
    times = {
        prompt: np.random.default_rng(xxhash.xxh3_64_intdigest(prompt.encode())).poisson(1.0, 400)
        for prompt in set(prompts)
    }
    scores = []
    for number in range(400):
        drawn = np.repeat(np.arange(len(right)), [times[prompt][number] for prompt in prompts])
        if len(drawn):
            scores.append(sklearn_macro_f1(np.array(right)[drawn], np.array(found)[drawn]))
    low, high = np.quantile(scores, (0.025, 0.975))
    return float(low), float(high)


def test_a_broken_image_costs_the_validation_its_rollouts_and_is_named(
    corpus: Corpus, internvl: Path, settings: Settings, alone: None, tmp_path: Path
) -> None:
    config, images = settings(), tmp_path / "images"
    selection = read_selection(open_index(config.index), 1.0)
    held = validation_split(selection, 0.4, 0, ())
    rollouts = fetch_rollouts(selection.rows, selection.shards)
    bad = rollouts[held[0]].images[0]
    left = tuple(row for row in held if bad not in rollouts[row].images)
    assert 0 < len(left) < len(held)
    shutil.copytree(corpus.images, images)
    (images / bad).write_bytes(b"no image")

    backbone = load_backbone(str(internvl), torch.float32)
    slot = backbone.family.image_slot(backbone.processor.tokenizer)
    encoder = make_encoder(backbone, PromptFormat(slot, backbone.family.image_options(1)), config.max_length)
    model, targets = reward_model(backbone, encoder.format), targets_of(selection, config)

    def validated(rows: tuple[int, ...], root: Path, skip_broken: bool) -> Validated:
        plan = BatchPlan(
            selection.fingerprint, selection.rows.num_rows, (), 0, 1, 6, prompts_of(selection), True, rows
        )
        feed = RankLoader(
            selection, plan, encoder, None, ImageReader(str(root)), targets, 2, 0, 1, skip_broken=skip_broken
        )
        return validate(model, validation_loader(feed), loss_of(config), 0.0, torch.device("cpu"))

    with pytest.raises(ImageError, match=rf"can be decoded in {bad}"):
        validated(held, images, skip_broken=False)
    found, expected = validated(held, images, skip_broken=True), validated(left, Path(corpus.images), False)
    assert found.broken == {bad: "no image of a known format"}
    assert (found.rollouts, found.steps) == (len(left), expected.steps)
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert found.f1 == pytest.approx(expected.f1)


@pytest.mark.parametrize("counts", [(3, 1, 2, 4), (5, 0, 0, 0), (0, 0, 0, 0), (0, 2, 3, 0)])
def test_f1_from_counts_is_that_of_the_steps(counts: tuple[int, int, int, int]) -> None:
    if not sum(counts):
        assert counted_macro_f1(*counts) == 0.0
        return
    right = np.repeat([True, True, False, False], counts)
    found = np.repeat([True, False, True, False], counts)
    assert counted_macro_f1(*counts) == pytest.approx(sklearn_macro_f1(right, found))


def test_a_run_that_blows_up_keeps_no_weights_and_names_its_batch(
    settings: Settings, ray_cluster: None
) -> None:
    config = settings(learning_rate=1e30, warmup=0.0, checkpoint_every=1, zero_stage=2, max_failures=3)
    with pytest.raises(TrainingError, match=r"a finite (loss|gradient); .*stopped-at-step-1\.json"):
        train(config)
    output = Path(config.output)
    (file,) = output.glob("runs/*/stopped-at-step-1.json")
    saved = json.loads(file.read_text())
    selection = read_selection(open_index(config.index), 1.0)
    assert saved["rollout_ids"] == selection.rows["rollout_id"].take(saved["rows"]).to_pylist()
    assert len(saved["rows"]) == 6
    assert not (output / "config.json").exists()
