"""What makes two runs the same run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bisieve.errors import TrainingError
from ray_train.checkpoints.run_dir import check_identity, run_identity
from ray_train.choices import PAPER, Workers
from ray_train.config import TrainConfig
from ray_train.data.sampler import BatchPlan

Settings = Callable[..., TrainConfig]


def identity(config: TrainConfig) -> dict[str, Any]:
    return run_identity(config, BatchPlan("cut", 4, (), 0, 1, 2, np.arange(4), True), "index")


@pytest.mark.parametrize(
    ("before", "options"),
    [
        ({}, {"evidence_weight": 0.5}),
        ({}, {"kappa_rate": 2.0}),
        ({}, {"lora_alpha": 8}),
        ({}, {"lora_dropout": 0.1}),
        ({"objective": "soft"}, {"label_threshold": 0.5}),
        ({}, {"micro_batch": 7}),
        ({}, {"pack_tokens": 0, "micro_batch": 1}),
        ({}, {"device": "cpu"}),
        ({}, {"workers": Workers(1, 1), "zero_stage": 3, "gradient_checkpointing": True}),
    ],
    ids=str,
)
def test_what_has_no_effect_on_what_is_learned_may_change(
    before: dict[str, Any], options: dict[str, Any], settings: Settings
) -> None:
    assert identity(settings(**before, **options)) == identity(settings(**before))


@pytest.mark.parametrize(
    ("before", "options"),
    [
        ({"objective": "beta-binomial"}, {"evidence_weight": 0.5}),
        ({"objective": "beta-binomial"}, {"kappa_rate": 2.0}),
        ({"lora_rank": 4}, {"lora_alpha": 8}),
        ({"lora_rank": 4}, {"lora_dropout": 0.1}),
        ({}, {"label_threshold": 0.5}),
        ({}, {"max_tiles": 4}),
        ({}, {"loss_mean": "pair"}),
        ({}, {"drop_last": True}),
        ({}, {"start_at_zero": True}),
        ({}, {"decayed": "all"}),
        ({}, {"drop_path": 0.4}),
        ({}, {"seed": 1}),
        ({"backbone": "lab/model"}, {"backbone": "lab/another"}),
    ],
    ids=str,
)
def test_what_has_one_may_not(before: dict[str, Any], options: dict[str, Any], settings: Settings) -> None:
    changed = identity(settings(**{**before, **options}))
    assert changed != identity(settings(**before))
    for name in options:
        assert changed[name] != identity(settings(**before)).get(name), "it is named"


def test_other_options_of_a_selection_are_part_of_the_identity_and_those_of_the_index_are_not(
    settings: Settings,
) -> None:
    plan = BatchPlan("cut", 4, (), 0, 1, 2, np.arange(4), True)
    plain, own = (run_identity(settings(**asked), plan, "index") for asked in ({}, {"alpha": 0.05}))
    assert plain == own
    other = run_identity(settings(), plan, "index", ranking={"strategy": "paired", "alpha": 0.2})
    assert {name: other[name] for name in other.keys() - plain.keys()} == {"strategy": "paired", "alpha": 0.2}
    with pytest.raises(TrainingError, match=r"alpha None, .*strategy None\); found .*alpha 0\.2, .*'paired'"):
        check_identity(plain, other, "output")


def test_a_resume_with_another_system_turn_is_refused_by_the_name_of_its_option(
    settings: Settings, internvl: Path
) -> None:
    own, none = (identity(settings(backbone=str(internvl), system=name)) for name in ("family", "none"))
    with pytest.raises(
        TrainingError, match=r"use the options of that run \(.*--system, none for .*\) to resume"
    ):
        check_identity(none, own, "output")


def test_a_recipe_counts_by_its_options_and_not_by_its_name(settings: Settings) -> None:
    assert identity(settings(recipe="paper")) == identity(settings(**PAPER)) != identity(settings())


def test_a_run_of_before_the_papers_options_goes_on(settings: Settings) -> None:
    younger = {"recipe", "loss_mean", "drop_last", "start_at_zero", "decayed", "drop_path"}
    assert not younger & identity(settings()).keys()


def test_a_backbone_is_known_by_what_it_holds(
    settings: Settings, internvl: Path, qwen: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    moved.symlink_to(internvl)
    first, again, other = (identity(settings(backbone=f"file://{at}")) for at in (internvl, moved, qwen))
    assert first == again
    assert first["backbone"] != other["backbone"]
