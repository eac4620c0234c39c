"""The study's harness: its runs, none of which is repeated, its control, and what its report claims."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bench.study import results, run
from bench.study.control import control_rows, kinds_of
from bench.study.grid import EQUAL_STEPS, Run, small_study, whole_study
from bench.study.report import estimate, report, runs_of

RUN = Run(corpus=0, seed=1, strategy="bis", fraction=0.1)


def row(number: int, auc: float, **fields: object) -> dict[str, object]:
    """A result, with made-up numbers."""
    made = replace(RUN, seed=number, **fields)  # type: ignore[arg-type]
    shares = ("mixed_share", "negative_share", "all_negative_share", "shortcut", "position_baseline_auc")
    numbers = {**dict.fromkeys(shares, 0.5), "optimizer_steps": round(250 * made.fraction)}
    return {"name": made.name, **made.fields(), **numbers, "auc": auc}


def test_the_study_makes_each_run_once_and_the_main_comparison_first() -> None:
    runs = whole_study()
    assert len(runs) == len(set(runs))
    first = runs[:27]
    assert {made.regime for made in first} == {"main"}
    assert {made.corpus for made in first} == {0, 1, 2}
    assert {made.name for made in first} == {"all", "bis", "bis alpha 0.2", "random", "paired"}
    assert set(small_study()) <= set(runs)


def test_equal_steps_are_those_of_one_pass_over_all() -> None:
    assert replace(RUN, budget=EQUAL_STEPS).epochs == 10
    assert replace(RUN, budget=EQUAL_STEPS, fraction=0.25).epochs == 4
    assert RUN.epochs == 1


def test_a_finished_run_is_not_repeated_and_a_changed_recipe_makes_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "contents_of", lambda folder: "contents")
    made: list[Run] = []

    def perform(which: Run, work: Path) -> dict[str, float]:
        made.append(which)
        return {"auc": 0.6, "seconds": 1.0}

    monkeypatch.setattr(run, "ProcessPoolExecutor", lambda number, _: ThreadPoolExecutor(number))
    monkeypatch.setattr(run, "_performed", perform)
    path, another = tmp_path / "study.parquet", replace(RUN, seed=2)
    results.add_result(path, RUN, {"auc": 0.7, "seconds": 1.0})
    for _ in range(2):
        run.make_runs([RUN, another], path, tmp_path, 1, 60.0)
    assert made == [another]
    assert [each["auc"] for each in results.read_results(path)] == [0.7, 0.6]
    before = results.key_of(RUN)
    monkeypatch.setitem(results.RECIPE, "learning_rate", 0.5)
    assert results.key_of(RUN) != before


def test_the_small_study_ends_with_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its first runs are of untrained bases, which have fewer results than the others."""
    there = {each["key"]: each for each in results.read_results(run.RESULTS / "study.parquet")}
    path = tmp_path / "small.parquet"
    for which in small_study():
        kept = there[results.key_of(which)]
        found = {name: value for name, value in kept.items() if value is not None}
        results.add_result(path, which, found)
    assert [each["key"] for each in results.read_results(path)] == list(map(results.key_of, small_study()))
    assert run.main(["--small", "--results", str(path)]) == 0
    shown = capsys.readouterr()
    assert "38 runs, 38 are made" in shown.err
    assert "| BIS (α 0.05) − random, 10% |" in shown.out
    assert "| bis 10% |" in shown.out


def test_the_results_that_are_there_are_of_runs_of_this_study() -> None:
    """Else all of them would be made again: a new setting of the corpus must not change their keys."""
    there = {each["key"] for each in results.read_results(run.RESULTS / "study.parquet")}
    assert len(there) > 100
    assert there <= {results.key_of(which) for which in whole_study()}


def test_the_control_has_the_kinds_of_rollouts_and_the_negative_steps_of_the_selection() -> None:
    rng = np.random.default_rng(0)
    steps = rng.integers(3, 9, 2_000)
    positive = np.where(rng.random(2_000) < 0.6, steps, rng.integers(0, steps + 1))
    rows = pa.table({"source": np.array(["a", "b"])[np.arange(2_000) % 2], "num_steps": steps,
                     "num_positive": positive})  # fmt: skip
    mixture = positive / steps * (1 - positive / steps)
    selected = rows.take(np.argsort(-mixture, kind="stable")[:300])
    chosen = rows.take(control_rows(selected, rows, seed=1))
    assert sorted(kinds_of(chosen)) == sorted(kinds_of(selected))

    def negative(table: pa.Table) -> float:
        return float(1 - table["num_positive"].to_numpy().sum() / table["num_steps"].to_numpy().sum())

    assert negative(chosen) == pytest.approx(negative(selected), abs=0.005)
    assert set(map(str, chosen.to_pylist())) != set(map(str, selected.to_pylist()))


def test_neither_one_seed_nor_one_corpus_is_an_effect() -> None:
    noise = [0.0, 0.1, -0.1, 0.05]
    places = [(corpus, seed) for corpus in range(3) for seed in range(4)]
    rows = [row(seed, 0.6 + noise[seed] + corpus / 10, corpus=corpus) for corpus, seed in places]
    rows += [
        row(seed, 0.5 + noise[seed] + corpus / 10 + corpus / 1000, strategy="random", corpus=corpus)
        for corpus, seed in places
    ]
    assert runs_of(rows).difference("bis", "random", 0.1).verdict() == "better"
    assert "| BIS (α 0.05) − random, 10% | +0.099 [+0.097, +0.101] (12) | better |" in report(rows)
    of_one = [each for each in rows if each["corpus"] == 0]
    assert runs_of(of_one).difference("bis", "random", 0.1).verdict() == "too few corpora"
    assert estimate({(0, 0): 0.1, (1, 0): -0.1, (2, 0): 0.05}).verdict() == "no difference shown"


def test_the_steps_to_the_quality_of_all_are_those_of_the_smallest_fraction_that_is_about_as_good() -> None:
    of_fraction = {0.05: 0.6, 0.1: 0.692, 0.25: 0.71}
    rows = [row(0, 0.7, strategy="all", fraction=1.0, corpus=corpus) for corpus in range(3)]
    for corpus in range(3):
        rows += [row(0, auc, fraction=at, corpus=corpus) for at, auc in of_fraction.items()]
        rows += [row(0, auc - 0.05, strategy="random", fraction=at, corpus=corpus)
                 for at, auc in of_fraction.items()]  # fmt: skip
    shown = report(rows)
    assert "| bis | 10% | 25 | -0.008 [-0.008, -0.008] (3) | worse, by less than 0.01 |" in shown
    assert "| random | none up to 25% | – | – | – |" in shown
    assert "| bis 10% − random 25% | +0.032 [+0.032, +0.032] (3) | better |" in shown


def test_what_one_corpus_gives_is_shown_with_the_ends_of_its_seeds() -> None:
    """As of the large corpus, of which there is one: it has neither all rollouts nor an interval."""
    rows = [
        row(seed, 0.7 + seed / 100, strategy=name, fraction=at, regime="large")
        for name, at in (("random", 0.25), ("random", 0.05), ("bis", 0.05)) for seed in range(3)
    ]  # fmt: skip
    shown = report(rows)
    assert "| bis | 0.710 (3: 0.700 to 0.720) | – |" in shown
    assert "| large: random 5% − random 25% | +0.000 (3: +0.000 to +0.000) | too few" in shown
    assert "| by position alone | 0.500" in shown
    assert "| all |" not in shown
    assert not [line for line in shown.splitlines() if set(line.split(" | ")[1:]) == {"–"}]


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ((0.001, -0.001, 0.0), "equivalent within ±0.01"),
        ((0.005, -0.005, 0.0), "no difference shown"),
        ((0.003, 0.004, 0.005), "better, by less than 0.01"),
        ((-0.003, -0.004, -0.005), "worse, by less than 0.01"),
        ((0.01, 0.012, 0.011), "better"),
    ],
)
def test_no_difference_and_none_that_matters_are_told_apart(
    differences: tuple[float, ...], verdict: str
) -> None:
    found = estimate({(corpus, 0): value for corpus, value in enumerate(differences)})
    assert found.verdict() == verdict


def test_seeds_of_a_corpus_count_as_one() -> None:
    of_one_seed = estimate({(0, 0): 0.1, (1, 0): 0.2, (2, 0): 0.3})
    of_many = estimate({(corpus, seed): (corpus + 1) / 10 for corpus in range(3) for seed in range(9)})
    assert (of_many.low, of_many.high) == pytest.approx((of_one_seed.low, of_one_seed.high))
    assert (of_one_seed.runs, of_many.runs) == (3, 27)
    assert of_one_seed.high - of_one_seed.mean == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)
