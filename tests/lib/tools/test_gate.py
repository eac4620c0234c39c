"""``bisieve gate``: what passes, what does not, and with which numbers."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.handmade import DEFAULTS, Made, make_index

from bisieve.cli.main import main
from bisieve.errors import GateError
from bisieve.index.cutoffs import ALL, cutoff_scores
from bisieve.index.manifest import version_manifest
from bisieve.index.reader import Index, open_index
from bisieve.index.selection import read_selection
from bisieve.index.versions import version_before
from bisieve.tools.gate import (
    GateResult,
    Limits,
    Line,
    SourceStats,
    VersionStats,
    add_stats,
    judge,
    version_stats,
)
from bisieve.tools.gate_report import gate_report, refuse

LIMITS = Limits(min_rollouts=100)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """A real one, whose own numbers the tests below replace."""
    return make_index(tmp_path, [Made("a", "r", (1.0, 0.0))])


def a_side(index: Index, whole_bis: float | None = None, **sources: SourceStats) -> VersionStats:
    counts = add_stats(sources.values())
    return VersionStats(index, 0.25, sources, replace(counts, bis=whole_bis))


def asked(index: Index, **parameters: Any) -> Index:
    manifest = index.manifest
    return Index(index.url, replace(manifest, parameters=replace(manifest.parameters, **parameters)))


def line(verdict: GateResult, name: str) -> Line:
    (found,) = [line for line in verdict.lines if line.name == name]
    return found


def test_drift_is_the_change_of_the_share_of_mixed_rollouts_and_of_the_selections_last_score(
    index: Index,
) -> None:
    before, now = (
        a_side(index, a=SourceStats(1000, 300, 0, 0.25)),
        a_side(index, a=SourceStats(2000, 500, 0, 0.2)),
    )
    found = line(judge(now, before, LIMITS), "a")
    assert found.mixture_drift == pytest.approx(0.05)
    assert found.score_drift == pytest.approx(0.2)


def test_small_sources_are_judged_as_one_and_not_at_all_when_they_are_few(index: Index) -> None:
    before = a_side(
        index, a=SourceStats(90, 9, 0, 0.2), b=SourceStats(30, 3, 0, 0.1), c=SourceStats(500, 50, 0, 0.2)
    )
    now = a_side(
        index, a=SourceStats(90, 18, 0, 0.2), b=SourceStats(30, 6, 0, 0.1), c=SourceStats(50, 50, 0, 0.2)
    )
    verdict = judge(now, before, LIMITS)
    assert [one.name for one in verdict.lines] == ["c", "2 smaller", "all"]
    assert line(verdict, "2 smaller").mixture_drift == pytest.approx(0.1)
    assert line(verdict, "2 smaller").now.bis == pytest.approx((90 * 0.2 + 30 * 0.1) / 120)
    assert line(verdict, "c").mixture_drift is None
    none = judge(now, before, replace(LIMITS, min_rollouts=2000))
    assert none.uncompared == ["mixture and score: no source has 2,000 rollouts in both versions"]
    refuse(none)


def test_with_one_selection_over_all_its_score_is_judged_and_the_mixture_of_each_source(index: Index) -> None:
    of_all = asked(index, scope="global")
    before = a_side(of_all, 0.2, a=SourceStats(300, 30, 0, None), b=SourceStats(300, 60, 0, None))
    now = a_side(of_all, 0.1, a=SourceStats(300, 30, 0, None), b=SourceStats(300, 60, 0, None))
    verdict = judge(now, before, LIMITS)
    assert line(verdict, "all").score_drift == pytest.approx(0.5)
    assert line(verdict, "a").mixture_drift == 0
    with pytest.raises(GateError, match=r"found 50.00% score drift \(all: BIS 0.2 → 0.1\)"):
        refuse(verdict)


def test_a_new_source_drifts_from_nothing_and_one_that_has_vanished_is_refused(index: Index) -> None:
    before = a_side(index, a=SourceStats(500, 50, 0, 0.2), old=SourceStats(500, 500, 0, 0.3))
    now = a_side(index, a=SourceStats(500, 50, 0, 0.2), new=SourceStats(700, 0, 0, 0.05))
    verdict = judge(now, before, LIMITS)
    with pytest.raises(GateError, match=r"found 100.00% lost rollouts \(old: 500 → 0\);"):
        refuse(verdict)
    refuse(judge(now, before, replace(LIMITS, lost=1)))
    assert (verdict.new, verdict.vanished) == ({"new": 700}, {"old": 500})
    shown = gate_report(verdict)
    assert "new: new (700 rollouts)" in shown
    assert "vanished: old (500 rollouts)" in shown


def test_a_source_that_shrinks_below_what_is_compared_is_told_and_refused(index: Index) -> None:
    before = a_side(index, a=SourceStats(1000, 300, 0, 0.2), b=SourceStats(9000, 900, 0, 0.2))
    now = a_side(index, a=SourceStats(99, 99, 0, 0.05), b=SourceStats(9000, 900, 0, 0.2))
    verdict = judge(now, before, LIMITS)
    assert "not compared: mixture and score of a: 1,000 → 99 rollouts" in gate_report(verdict)
    with pytest.raises(GateError, match=r"20% lost .* 90.10% lost rollouts \(a: 1,000 → 99\)"):
        refuse(verdict)


def test_a_number_at_its_limit_passes_and_one_above_fails_with_both_numbers(index: Index) -> None:
    before = a_side(index, a=SourceStats(1000, 250, 0, 0.5), b=SourceStats(1000, 250, 0, 0.5))
    now = a_side(
        index,
        a=SourceStats(1000, 500, 0, 0.25),
        b=SourceStats(1000, 375, 0, 0.5),
        c=SourceStats(0, 0, 1000, None),
    )
    at = Limits(reject_rate=1 / 3, mixture_drift=0.25, score_drift=0.5)
    refuse(judge(now, before, at))
    with pytest.raises(GateError) as caught:
        refuse(judge(now, before, Limits(reject_rate=0.3, mixture_drift=0.1, score_drift=0.4)))
    expected, found, _ = caught.value.args
    assert expected.startswith(
        "at most 30% rejected records, at most 10% mixture drift, at most 40% score drift in version"
    )
    assert found == (
        "33.33% (1,000 of 3,000) rejected, 25.00% mixture drift (a: 25.00% → 50.00% mixed) and 1 more, "
        "50.00% score drift (a: BIS 0.5 → 0.25)"
    )


def test_a_score_that_was_zero_drifts_without_bounds(index: Index) -> None:
    before, now = a_side(index, a=SourceStats(500, 50, 0, 0.0)), a_side(index, a=SourceStats(500, 50, 0, 0.1))
    assert line(judge(now, before, LIMITS), "a").score_drift == float("inf")
    assert line(judge(before, before, LIMITS), "a").score_drift == 0


@pytest.mark.parametrize(
    ("parameters", "mixture", "told"),
    [
        ({"alpha": 0.2}, 0.0, "score: alpha 0.05 → 0.2"),
        ({"scope": "global"}, 0.0, "score: scope source → global"),
        ({"threshold": 0.5}, None, "mixture and score: threshold 0.0 → 0.5"),
    ],
)
def test_what_other_parameters_made_is_not_compared_and_the_gate_says_so(
    index: Index, parameters: dict[str, Any], mixture: float | None, told: str
) -> None:
    held = SourceStats(500, 50, 0, 0.2)
    verdict = judge(a_side(asked(index, **parameters), a=held), a_side(index, a=held), LIMITS)
    assert (line(verdict, "a").mixture_drift, line(verdict, "a").score_drift) == (mixture, None)
    assert f"not compared: {told}" in gate_report(verdict)


def test_the_end_of_a_random_selection_is_no_score_to_compare(index: Index) -> None:
    random = a_side(asked(index, strategy="random"), a=SourceStats(500, 50, 0, 0.2))
    assert judge(random, random, LIMITS).uncompared == ["score: strategy random does not rank by it"]


@pytest.mark.parametrize("scope", ["source", "global"])
@pytest.mark.parametrize("fraction", [0.25, 0.3, 1.0])
def test_a_selection_ends_where_its_last_rollout_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scope: str, fraction: float
) -> None:
    monkeypatch.setattr("bisieve.index.writer.ROWS_PER_FILE", 16)
    made = [Made(f"s{n % 3}", f"{n}", (1.0, (n % 17) / 17)) for n in range(100)] + [Made("one", "x", (0.5,))]
    index = make_index(tmp_path, made, replace(DEFAULTS, scope=scope))
    rows = read_selection(index, fraction).rows.to_pylist()
    last: dict[str, Any] = {}
    for row in rows:
        key = row["source"] if scope == "source" else ALL
        last[key] = max(last.get(key, row), row, key=lambda one: one["rank"])
    assert cutoff_scores(index, fraction) == {key: row["bis"] for key, row in last.items()}


def test_a_side_is_what_the_index_holds(tmp_path: Path) -> None:
    made = [Made("a", f"{n}", (1.0, float(n % 2))) for n in range(40)] + [Made("b", "x", (0.5,))]
    found = version_stats(make_index(tmp_path, made), 0.5)
    assert found.sources["a"] == SourceStats(40, 20, 0, pytest.approx(0.3))
    assert found.whole == SourceStats(41, 20, 0, None)


def test_the_version_before_is_the_last_that_was_published_and_none_of_an_overtaken_run(
    tmp_path: Path,
) -> None:
    made, now = [Made("a", "r", (1.0, 0.0))], time.time()
    versions = [make_index(tmp_path, made, replace(DEFAULTS, alpha=alpha)) for alpha in (0.1, 0.2, 0.3)]
    for age, version in zip((30, 20, 10), versions, strict=True):
        os.utime(_copy(version), (now - age, now - age))
    assert _name(version_before(versions[2])) == versions[1].fingerprint
    os.utime(_copy(versions[1]), (now, now))
    assert _name(version_before(versions[2])) == versions[0].fingerprint
    os.utime(_copy(versions[0]), (now, now))
    assert version_before(versions[2]) is None


def _copy(index: Index) -> Path:
    return Path(index.url.removeprefix("file://"), version_manifest(index.fingerprint))


def _name(index: Index | None) -> str | None:
    return index and index.fingerprint


def test_the_command_passes_a_first_version_and_fails_one_that_moved_too_far(
    score: Callable[..., Any],
    write_jsonl: Callable[..., Path],
    rollout: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, corpus = str(tmp_path / "index"), tmp_path / "corpus"
    ask = ["gate", "--index", url, "--min-rollouts", "20"]
    write_jsonl(
        "corpus/a.jsonl", [rollout([1.0, number % 2], rollout_id=f"{number}") for number in range(40)]
    )
    score(corpus, url)
    first = open_index(url).fingerprint[:16]
    assert main(ask) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].split() == ["a", "40", "0", "0.00%", "50.00%", "-", "-", "0.3000", "-", "-"]
    assert "not compared: mixture and score: there is no version before" in shown
    assert shown[-1] == first

    # As many rejects as the limit allows, and no mixed rollout is left.
    moved = [*(rollout([1.0], rollout_id=f"{number}") for number in range(40)), b"{}"]
    write_jsonl("corpus/a.jsonl", moved)
    score(corpus, url)
    assert main([*ask, "--max-reject-rate", "0.03"]) == 1
    captured = capsys.readouterr()
    (error,) = captured.err.splitlines()
    assert error.startswith("bisieve: error: expected at most 5% mixture drift, at most 10% score drift")
    assert "50.00% mixture drift (a: 50.00% → 0.00% mixed), 83.33% score drift" in error
    assert captured.out.splitlines()[1].split()[-3:] == ["0.0500", "0.3000", "83.33%"]
    assert f"before {first}" in captured.out.splitlines()[-1]

    assert main([*ask, "--max-mixture-drift", "1", "--max-score-drift", "1"]) == 1
    assert "found 2.44% (1 of 41) rejected;" in capsys.readouterr().err

    # What comes after one that was refused is compared with the last that passed, which `clean` leaves there.
    write_jsonl("corpus/b.jsonl", [rollout([1.0])])
    score(corpus, url)
    assert main(["clean", "--index", url, "--older-than", "0m"]) == 0
    assert main([*ask, "--max-reject-rate", "0.03"]) == 1
    assert f"before {first}" in capsys.readouterr().out.splitlines()[-1]
    loose = ["--max-reject-rate", "0.03", "--max-mixture-drift", "1", "--max-score-drift", "1"]
    assert [main([*ask, *loose]), main([*ask, "--max-reject-rate", "0.03"])] == [0, 1], "passed, but not so"
    assert main([*ask, *loose]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == open_index(url).fingerprint[:16]

    # A third one is like the second, but not like the first.
    write_jsonl("corpus/a.jsonl", moved[1:-1])
    score(corpus, url)
    assert main(ask) == 0
    assert main([*ask, "--against", first]) == 1
    assert main(["gate", "--index", url, "--max-reject-rate", "nan"]) == 2
    assert main(["gate", "--index", url, "--fraction", "0"]) == 2
