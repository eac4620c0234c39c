"""The benchmark's harness at a tiny size: it measures, it compares, and it fails when it should."""

import json
import math
from pathlib import Path

import pyarrow as pa
import pytest

from bench import phases
from bench.agreement import disagreement
from bench.corpora.make import make_corpus
from bench.corpora.sources import LISTS_OF_IMAGES, SOURCES
from bench.plan import Requirement, read_plan
from bench.requirements import judge
from bench.run import HERE, main

pytestmark = [pytest.mark.spark, pytest.mark.slow]  # engines and contenders, and corpora of all kinds

TINY = 0.002

PLAN = """
[contenders.bisieve]
command = "bisieve score --input {input} --index {output} --engine spark"
[contenders.local]
command = "bisieve score --input {input} --index {output} --engine local"
[contenders.plain]
command = "python {bench}/contenders/plain_script.py --input {input} --output {output}"
[contenders.spark_reader]
command = "python {bench}/contenders/spark_reader.py --input {input} --output {output}"
[contenders.duckdb]
command = "python {bench}/contenders/duckdb_sql.py --input {input} --output {output}"
[contenders.polars]
command = "python {bench}/contenders/polars_lazy.py --input {input} --output {output}"
[contenders.listing]
command = "python -m bench.listing --size {size}"

[[case]]
name = "rollouts"
corpus = "rollouts"
sizes = [1]
contenders = ["bisieve", "local", "plain", "spark_reader", "duckdb", "polars"]

[[case]]
name = "listing"
sizes = [1]
contenders = ["listing"]

[[requirement]]
says = "a worker was seen"
value = "rollouts/1x/bisieve/worker_mb"
at_least = 10
[[requirement]]
says = "everybody ran"
value = [
    "rollouts/1x/plain/cpu_s",
    "rollouts/1x/spark_reader/cpu_s",
    "rollouts/1x/duckdb/cpu_s",
    "rollouts/1x/polars/cpu_s",
]
at_least = 0.01
[[requirement]]
says = "the listing's parts were told"
value = "listing/1x/listing/manifest_kb"
at_most = 5
"""

IMPOSSIBLE = """
[[requirement]]
says = "the listing takes no memory"
value = "listing/1x/listing/memory_mb"
at_most = 0
"""


@pytest.fixture(autouse=True)
def few_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine sources, the one with lists of images among them: each takes its time for its pool of texts."""
    few = SOURCES[3::4]
    assert LISTS_OF_IMAGES in {source.name for source in few}
    monkeypatch.setattr("bench.corpora.make.SOURCES", few)


def _bench(folder: Path, plan: str, *arguments: str) -> tuple[int, dict]:
    (folder / "plan.toml").write_text(plan, encoding="utf-8")
    options = ["--plan", folder / "plan.toml", "--work", folder, "--results", folder, "--scale", TINY]
    code = main([*map(str, options), *arguments])
    return code, json.loads((folder / "scoring.json").read_text(encoding="utf-8"))


def test_all_contenders_find_the_same_and_are_measured(tmp_path: Path) -> None:
    code, found = _bench(tmp_path, PLAN)
    assert (code, found["failures"]) == (0, {})
    assert found["measured"]["rollouts/1x/plain"]["mb_per_core_s"] > 0
    assert found["measured"]["listing/1x/listing"]["tasks"] >= 1


def test_a_missed_requirement_fails_the_benchmark(tmp_path: Path) -> None:
    code, found = _bench(tmp_path, PLAN + IMPOSSIBLE, "--only", "listing")
    assert code == 1
    assert [verdict["holds"] for verdict in found["requirements"]] == [False, False, True, False]


def test_a_contender_that_breaks_fails_the_benchmark(tmp_path: Path) -> None:
    code, found = _bench(tmp_path, PLAN.replace("bench.listing", "bench.lost"), "--only", "listing")
    assert code == 1
    assert "exit code 1" in found["failures"]["listing/1x/listing"]


def test_the_real_plan_holds_together() -> None:
    plan = read_plan(HERE / "scoring.toml")
    assert {case.name for case in plan.only(["steps"], [10]).cases} == {"steps"}


def test_a_requirement_takes_the_least_favourable_and_fails_without_a_number() -> None:
    ratio = Requirement("faster than both", ("a/1x/b/wall_s", "a/1x/c/wall_s"), "a/1x/d/wall_s", at_least=1.0)
    measured = {"a/1x/b": {"wall_s": 4.0}, "a/1x/c": {"wall_s": 1.0}, "a/1x/d": {"wall_s": 2.0}}
    everything = set(measured)
    assert judge([ratio], measured, everything)[0].found == 0.5
    assert judge([ratio], {**measured, "a/1x/c": {}}, everything)[0].failed
    assert math.isnan(judge([ratio], {**measured, "a/1x/c": {}}, everything)[0].found or 0)
    assert not judge([ratio], measured, everything - {"a/1x/c"})[0].failed


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rank": [2, 1]}, "another rank in 2 rows"),
        ({"bis": [0.5, 0.1 + 1e-9]}, "another BIS in 1 rows"),
        ({"bis": [0.5, 0.1 + 1e-15]}, None),
        ({"scores": [[1.0, 0.0], [0.5]]}, "other scores in 1 rows"),
        ({"scores": [[1.0], [1.0]]}, "other scores in 1 rows"),
    ],
)
def test_results_are_compared_row_by_row(changed: dict[str, list], said: str | None) -> None:
    ours = {"source": ["s", "s"], "rank": [1, 2], "bis": [0.5, 0.1], "scores": [[1.0, 0.0], [1.0]]}
    assert disagreement(pa.table(ours), pa.table({**ours, **changed})) == said


@pytest.mark.parametrize("name", ["rollouts", "steps", "steps_of_long_text", "one_shard", "long_rollout"])
def test_a_corpus_is_the_same_every_time(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.corpora.make.SOURCES", SOURCES[:5])  # each takes its time for its texts
    corpora = [make_corpus(name, TINY, tmp_path / place) for place in ("a", "b")]
    assert corpora[0].counts == corpora[1].counts
    for one, two in zip(*(corpus.shards for corpus in corpora), strict=True):
        assert one.read_bytes() == two.read_bytes()
        for line in one.read_bytes().split(b"\n")[:-1]:
            json.loads(line)


def test_the_phases_of_a_run_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_corpus("rollouts", TINY, tmp_path)
    phases.main(["--input", str(tmp_path / f"rollouts-{TINY:g}x")])
    told = [line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert len(told) == 6
    assert all(float(microseconds) > 0 for _, microseconds in told)
