"""A sweep counts the rollouts that its trainings select."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.handmade import Made, make_index
from support.small_corpus import Corpus

import bisieve
from bisieve.errors import UsageError
from bisieve.index.exclusion import read_exclusion
from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection, select
from ray_train.config import TrainConfig
from ray_train.sweeps.config import Options, SweepConfig, Values
from ray_train.sweeps.grid import trials
from ray_train.sweeps.run import sweep
from ray_train.sweeps.sizes import check_counts, sizes_of


@pytest.fixture
def config(corpus: Corpus, internvl: Any, tmp_path: Path) -> SweepConfig:
    ids = read_selection(open_index(corpus.index), 1.0).rows["rollout_id"].to_pylist()
    (tmp_path / "ids.txt").write_text("\n".join(ids[::3]))
    return SweepConfig(
        index=corpus.index, image_root=corpus.images, backbone=str(internvl), benchmark=corpus.benchmark,
        output=str(tmp_path / "output"), fractions=Values((0.25, 0.5)),
        train=Options((("exclude", str(tmp_path / "ids.txt")), ("global-batch", 4))),
    )  # fmt: skip


@pytest.mark.parametrize("scope_of_drop", ["keep", "drop"])
@pytest.mark.parametrize("fraction", [0.25, 0.5, 1.0])
def test_rollouts_that_are_left_out_do_not_count(
    config: SweepConfig, fraction: float, scope_of_drop: str
) -> None:
    train = replace(config.train_config("random", "index", "hard", fraction, 0), all_negative=scope_of_drop)
    index = open_index(config.index)
    exclusion = read_exclusion(index, train.exclude)
    selected = select(index, fraction, train.ranking, exclusion=exclusion).rows.num_rows
    found = sizes_of(index, train.exclude)
    assert found.selected(train) == selected
    assert found.total == index.manifest.rollouts - exclusion.rollouts
    assert sizes_of(index, "").selected(train) == select(index, fraction, train.ranking).rows.num_rows


def test_a_dry_run_counts_what_can_be_selected(
    config: SweepConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(replace(config, dry_run=True))
    lines = capsys.readouterr().out.splitlines()
    index = open_index(config.index)
    train: TrainConfig = config.train_config("random", "index", "hard", 0.5, 0)
    found = sizes_of(index, train.exclude)
    assert f" of all {found.total} rollouts" in "\n".join(lines)
    (shown,) = [line.split()[5] for line in lines if line.startswith("random") and " 50% " in line]
    assert int(shown) == found.selected(train) < sizes_of(index, "").selected(train)


NEEDS_COUNTS = {
    "posterior": {"strategies": Values(("posterior", "random"))},
    "beta-binomial": {"objectives": Values(("hard", "beta-binomial"))},
}


@pytest.mark.parametrize("name", NEEDS_COUNTS)
def test_trials_that_need_counts_are_refused_before_one_runs_where_there_are_none(
    config: SweepConfig, tmp_path: Path, name: str
) -> None:
    with_counts: Any = {"image": "a.png", "question": "Why?", "steps_with_score": [
        {"step": "So.", "score": 1.0, "num_mc_correct": 16, "num_mc_total": 16}
    ]}  # fmt: skip
    (tmp_path / "counted.jsonl").write_text(json.dumps(with_counts) + "\n")
    bisieve.score(str(tmp_path / "counted.jsonl"), str(tmp_path / "index"), engine="local")
    counted = open_index(str(tmp_path / "index"))
    without = make_index(tmp_path / "made", [Made("a", f"a-{n}", (1.0, 0.0)) for n in range(4)])
    config = replace(config, train=Options())
    asking: SweepConfig = replace(config, **NEEDS_COUNTS[name])  # type: ignore[arg-type]
    check_counts(counted, trials(asking, counted, "digest"))
    check_counts(without, trials(config, without, "digest"))
    with pytest.raises(UsageError, match=f"for the trial .*{name}.*; found 4 rollouts without"):
        check_counts(without, trials(asking, without, "digest"))
