"""A sweep's trials are each made once, and are the same trials as long as their numbers would be the same."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.small_corpus import Corpus

from bisieve.errors import UsageError
from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection
from ray_train.sweeps.config import Options, SweepConfig, Values
from ray_train.sweeps.grid import Trial, trials


@pytest.fixture
def config(corpus: Corpus, internvl: Any) -> SweepConfig:
    return SweepConfig(
        index=corpus.index, image_root=corpus.images, backbone=str(internvl), benchmark=corpus.benchmark,
        output="/output", strategies=Values(("bis", "random")), fractions=Values((0.5, 0.1, 1.0)),
        alphas=Values(("0.05", "0.2")), seeds=Values((0, 1)),
    )  # fmt: skip


def grid(config: SweepConfig, benchmark: str = "b") -> list[Trial]:
    return trials(config, open_index(config.index), benchmark)


def test_trials_are_each_of_each_and_alpha_multiplies_only_what_depends_on_it(config: SweepConfig) -> None:
    found = [(each.strategy, each.alpha, each.fraction) for each in grid(config) if each.seed == 0]
    assert found == [
        ("bis", "0.05", 0.1), ("bis", "0.2", 0.1), ("random", "", 0.1),
        ("bis", "0.05", 0.5), ("bis", "0.2", 0.5), ("random", "", 0.5),
        ("all", "", 1.0),
    ]  # fmt: skip
    assert [each.seed for each in grid(config)] == [0] * 7 + [1] * 7
    assert len({each.id for each in grid(config)}) == 14


def test_alpha_of_the_index_is_the_number_that_it_has(config: SweepConfig) -> None:
    as_index, given = replace(config, alphas=Values(("index",))), replace(config, alphas=Values(("0.05",)))
    assert [each.id for each in grid(as_index)] == [each.id for each in grid(given)]


def test_a_trial_is_another_one_if_its_numbers_would_be_others(config: SweepConfig) -> None:
    (first, *_) = grid(config)
    others = [
        grid(config, benchmark="another"),
        grid(replace(config, train=Options((("epochs", 2),)))),
        grid(replace(config, train=Options((("all-negative", "drop"),)))),
        grid(replace(config, evaluate=Options((("threshold", 0.5),)))),
        grid(replace(config, objectives=Values(("soft",)))),
        grid(replace(config, equal_steps=True)),
    ]
    assert len({first.id, *(each[0].id for each in others)}) == 7


def test_a_trial_is_another_one_if_other_rollouts_are_left_out(config: SweepConfig, tmp_path: Path) -> None:
    ids = read_selection(open_index(config.index), 1.0).rows["rollout_id"].to_pylist()
    file, found = tmp_path / "ids.txt", [grid(config)[0].id]
    left_out = replace(config, train=Options((("exclude", str(file)),)))
    for text in ("", "\n".join(ids[:2]), "\n".join(ids[:3]), "\n".join(reversed(ids[:3]))):
        file.write_text(text)
        found.append(grid(left_out)[0].id)
    assert found[0] == found[1]
    assert found[3] == found[4]
    assert len(set(found)) == 3


def test_a_trial_stays_the_same_one_whatever_else_the_sweep_has(config: SweepConfig) -> None:
    wider = replace(
        config, output="/elsewhere", seeds=Values((0, 1, 2)), metric="overall_f1", delta=0.02, max_hours=1.0,
        train=Options((("pack_tokens", 100), ("workers", 2))), evaluate=Options((("batch", 2),)),
        objectives=Values(("hard", "soft")),
    )  # fmt: skip
    assert {each.id for each in grid(config)} < {each.id for each in grid(wider)}


def test_each_seed_draws_a_random_selection_of_its_own(config: SweepConfig) -> None:
    seeds = {(each.strategy, each.train.selection_seed) for each in grid(config)}
    assert seeds == {("bis", "index"), ("random", "0"), ("random", "1"), ("all", "index")}


def test_smaller_fractions_get_more_epochs_for_equal_steps(config: SweepConfig) -> None:
    train = Options((("epochs", 2),))
    found = grid(replace(config, equal_steps=True, train=train, seeds=Values((0,))))
    assert {each.fraction: each.train.epochs for each in found} == {0.1: 20, 0.5: 4, 1.0: 2}


def test_a_trial_is_of_one_worker_unless_more_are_asked_for(config: SweepConfig) -> None:
    assert grid(config)[0].train.workers.most == 1
    more = grid(replace(config, train=Options((("workers", 2),))))[0]
    assert (more.train.workers.most, more.evaluation.workers) == (2, 2)


def test_an_option_of_one_objective_does_not_stop_the_others(config: SweepConfig) -> None:
    both = replace(
        config, objectives=Values(("hard", "beta-binomial")), train=Options((("evidence-weight", 0.1),))
    )
    both.check()
    found = {each.objective: each.train.evidence_weight for each in grid(both)}
    assert found == {"hard": 0.05, "beta-binomial": 0.1}


def test_an_option_of_one_strategy_does_not_stop_the_others(config: SweepConfig) -> None:
    options = Options((("pair-share", 0.5), ("ties", "spread")))
    found = grid(replace(config, strategies=Values(("paired", "random", "bis")), train=options))
    given = {each.strategy: (each.train.pair_share, each.train.ties) for each in found}
    assert given == {
        "paired": ("0.5", "spread"), "bis": ("index", "spread"), "random": ("index", "index"),
        "all": ("index", "spread"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"strategies": Values(("bis",)), "fractions": Values((0.1,))}, "random among --strategies"),
        ({"train": Options((("seed", 1),))}, "no seed in train"),
        ({"train": Options((("epoch", 1),))}, "did you mean epochs"),
        ({"train": Options((("epochs", "two"),))}, "a value of type int for epochs in train"),
        ({"train": Options((("epochs", 0),))}, "--epochs"),
        ({"train": Options((("workers", "1-2"),))}, "a number of workers in train"),
        ({"evaluate": Options((("model", "m"),))}, "no model in evaluate"),
        ({"evaluate": Options((("threshold", 2.0),))}, "threshold"),
        ({"delta": 0.0}, "--delta"),
        ({"max_hours": -1.0}, "--max-hours"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    config: SweepConfig, changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UsageError, match=expected):
        replace(config, **changes).check()
