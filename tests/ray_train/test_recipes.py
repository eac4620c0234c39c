"""What ``--recipe paper`` sets, and what each of its options does to a run."""

import argparse
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.runs import resolved

from bisieve.errors import TrainingError
from ray_train.choices import PAPER
from ray_train.config import TrainConfig
from ray_train.config_io import add_options, read_config, to_toml
from ray_train.data.labels import pair_factors
from ray_train.data.sampler import BatchPlan
from ray_train.training import driver
from ray_train.training.optimizer import adamw, learning_rate


def test_the_recipe_sets_what_is_not_given_and_leaves_what_is(tmp_path: Path) -> None:
    config = resolved("--recipe", "paper")
    assert {name: getattr(config, name) for name in PAPER} == dict(PAPER)
    file = tmp_path / "config.toml"
    file.write_text("recipe = 'paper'\nclip = 1.0\n")
    config = resolved("--config", str(file), "--no-drop-last", "--drop-path", "0")
    assert (config.clip, config.drop_last, config.drop_path) == (1.0, False, 0.0)
    assert (config.loss_mean, config.decayed, config.start_at_zero) == ("pair", "all", True)
    # An explicit value counts as given where it is the default, too.
    assert resolved("--recipe", "paper", "--prompts-together").prompts_together is True
    assert resolved("--recipe", "bisieve") == resolved()


def test_a_recipe_in_python_is_that_of_the_command_line() -> None:
    needed = {"index": "i", "image_root": "r", "backbone": "b", "output": "o"}
    config = TrainConfig(**needed, recipe="paper")
    assert {name: getattr(config, name) for name in PAPER} == dict(PAPER)
    given = TrainConfig(**needed, recipe="paper", clip=1.0, prompts_together=True)
    assert (given.clip, given.prompts_together, given.drop_path) == (1.0, True, 0.4)
    assert replace(config, drop_path=0.0).drop_path == 0.0
    assert pickle.loads(pickle.dumps(config)) == config, "workers train by the same options"
    assert TrainConfig(**needed) == TrainConfig(**needed, recipe="bisieve")


def test_the_recipe_on_a_family_without_tiles_is_refused_before_ray_starts(
    qwen: Path, internvl: Path, settings: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "cluster", lambda workers: pytest.fail("Ray was started"))
    monkeypatch.setattr(
        "ray_train.training.plan.chosen_index", lambda config: pytest.fail("the index was opened")
    )
    with pytest.raises(TrainingError, match=r"--drop-path .*; found qwen2_5_vl; give --drop-path 0"):
        driver.train(settings(backbone=str(qwen), drop_path=0.4))
    with pytest.raises(pytest.fail.Exception, match="the index was opened"):
        driver.train(settings(backbone=str(internvl), drop_path=0.4))


def test_the_resolved_config_shows_what_the_recipe_set_and_is_read_back(tmp_path: Path) -> None:
    config, file = resolved("--recipe", "paper", "--decayed", "matrices"), tmp_path / "config.toml"
    text = to_toml(config, "read back")
    assert {'loss_mean = "pair"', "drop_path = 0.4", 'decayed = "matrices"'} <= set(text.splitlines())
    file.write_text(text)
    parser = argparse.ArgumentParser()
    add_options(parser, TrainConfig)
    assert read_config(TrainConfig, parser.parse_args(["--config", str(file)])) == config


def test_each_pairs_mean_counts_alike_and_the_sum_of_the_weights_stays() -> None:
    steps = np.array([2.0, 6.0, 4.0, 4.0, 5.0])  # the last pair is one rollout
    factors = pair_factors(steps)
    assert factors == pytest.approx([21 / 3 / 8] * 2 + [21 / 3 / 8] * 2 + [21 / 3 / 5])
    assert (factors * steps).sum() == pytest.approx(21)
    losses = [np.array([k + 0.5 * j for j in range(int(k))]) for k in steps]
    ours = sum(f * part.sum() for f, part in zip(factors, losses, strict=True)) / 21
    pairs = [np.concatenate(losses[at : at + 2]).mean() for at in (0, 2, 4)]
    assert ours == pytest.approx(np.mean(pairs))


def test_a_pair_of_which_nothing_is_learned_has_no_part_in_the_mean() -> None:
    assert pair_factors(np.array([0.0, 0.0, 3.0, 1.0])).tolist() == [0, 0, 1, 1]
    assert pair_factors(np.zeros(3)).tolist() == [0, 0, 0]


def test_the_papers_rate_is_one_step_behind_in_the_warm_up_and_equal_after_it() -> None:
    ours, paper = resolved("--learning-rate", "1"), resolved("--learning-rate", "1", "--start-at-zero")
    theirs = [learning_rate(step, 110, paper) for step in range(110)]
    assert theirs[:7] == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    rates = [learning_rate(step, 110, ours) for step in range(110)]
    assert rates[:7] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1])
    assert rates[6:] == theirs[6:]
    assert sum(rates) / sum(theirs) == pytest.approx(1.018, abs=5e-4)


def plan(rows: int, **options: Any) -> BatchPlan:
    return replace(BatchPlan("cut", rows, (), 0, 2, 4, np.arange(rows), False), **options)


@pytest.mark.parametrize(("rows", "steps", "dropped"), [(11, 2, 3), (8, 2, 0), (3, 1, 0)])
def test_the_last_smaller_batch_is_dropped_but_not_the_only_one(rows: int, steps: int, dropped: int) -> None:
    ours, theirs = plan(rows), plan(rows, drop_last=True)
    assert (theirs.steps_per_epoch, theirs.total_steps, theirs.dropped_per_epoch) == (
        steps,
        2 * steps,
        dropped,
    )
    assert (ours.steps_per_epoch, ours.dropped_per_epoch) == (-(-rows // 4), 0)
    sizes = {len(theirs.batch(step)) for step in range(theirs.total_steps)}
    assert sizes == {min(4, rows)}
    assert all((theirs.batch(step) == ours.batch(step)).all() for step in range(steps)), "the same order"


@pytest.mark.parametrize(("decayed", "of_the_bias"), [("matrices", 0.0), ("all", 0.05)])
def test_what_weight_decay_acts_on(decayed: str, of_the_bias: float) -> None:
    optimizer = adamw(torch.nn.Linear(2, 3), resolved("--decayed", decayed))
    decay = {p.ndim: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay == {2: 0.05, 1: of_the_bias}


def test_clip_and_epsilon_of_the_recipe_are_those_of_a_gradient_that_is_64_times_too_small() -> None:
    """Against one step of AdamW on the gradient as the paper's code has it."""
    gradient = torch.tensor([3.0, -1e-6, 40.0])

    def step(gradient: torch.Tensor, clip: float, epsilon: float) -> torch.Tensor:
        weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
        weight.grad = gradient.double()
        torch.nn.utils.clip_grad_norm_([weight], clip)
        torch.optim.AdamW([weight], lr=1.0, eps=epsilon, weight_decay=0).step()
        return weight.detach()

    for scale in (1.0, 100.0):  # below and above where the paper's clipping acts
        theirs = step(scale * gradient / 64, 1.0, 1e-8)
        assert step(scale * gradient, PAPER["clip"], PAPER["epsilon"]) == pytest.approx(theirs, rel=1e-6)
    assert step(gradient, 1.0, 1e-8) != pytest.approx(step(gradient / 64, 1.0, 1e-8), rel=1e-2)
