"""Runs the contenders of a case on one corpus, and measures those whose results agree."""

import json
import os
import shlex
import shutil
import statistics
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.agreement import disagreement, read_result
from bench.cluster import Cluster, standalone_cluster
from bench.corpora.make import Corpus
from bench.events import shuffle_bytes
from bench.measure import Usage, measure, tail
from bench.plan import Case, Contender, size_name

BENCH = Path(__file__).parent

Say = Callable[[str], None]


@dataclass
class Trial:
    """A contender on a corpus."""

    place: str  # case/size/contender
    usages: list[Usage] = field(default_factory=list)
    said: dict[str, float] = field(default_factory=dict)  # numbers that the command itself gives
    failure: str | None = None

    def metrics(self, corpus: Corpus | None) -> dict[str, float]:
        """The numbers of the run of median wall time, also per rollout and step; none after a failure."""
        if self.failure is not None:
            return {}
        chosen = sorted(self.usages, key=lambda usage: usage.wall_s)[(len(self.usages) - 1) // 2]
        numbers = {name: value for name, value in asdict(chosen).items() if name != "exit_code"} | self.said
        numbers["wall_spread"] = _spread([usage.wall_s for usage in self.usages])
        if corpus is not None:
            numbers["mb_per_core_s"] = corpus.bytes / 1e6 / chosen.cpu_s
            numbers["us_per_rollout"] = chosen.wall_s / corpus.rollouts * 1e6
            numbers["us_per_step"] = chosen.wall_s / corpus.steps * 1e6
            if "shuffle_bytes" in numbers:
                numbers["shuffle_bytes_per_step"] = numbers["shuffle_bytes"] / corpus.steps
        return numbers


def _spread(walls: list[float]) -> float:
    return (max(walls) - min(walls)) / statistics.median(walls)


def run_case(
    case: Case,
    size: float,
    scale: float,
    contenders: Mapping[str, Contender],
    corpus: Corpus | None,
    work: Path,
    say: Say,
) -> list[Trial]:
    """All contenders of ``case`` in turn, as often as it says; each finds the files in the page cache.

    In turn, so that a machine that grows slower does so for all.
    """
    where = f"{case.name}/{size_name(size)}"
    trials = {name: Trial(f"{where}/{name}") for name in case.contenders}
    repeats = case.repeats if size <= case.repeats_up_to else 1
    for repeat in range(repeats):
        for name, trial in trials.items():
            if trial.failure is None:
                _run(trial, contenders[name], size * scale, corpus, work / "runs" / trial.place)
                last = "" if not trial.usages else f"{trial.usages[-1].wall_s:.1f} s"
                say(f"{trial.place} {repeat + 1}/{repeats}: {trial.failure or last}")
    if corpus is not None:
        _compare(list(trials.values()), work)
    return list(trials.values())


def _run(trial: Trial, contender: Contender, size: float, corpus: Corpus | None, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "events").mkdir(parents=True)
    for shard in corpus.shards if corpus is not None else []:
        _read_once(shard)
    environment = _environment()
    cluster: Any = nullcontext(Cluster("", ()))
    if contender.workers:
        cluster = standalone_cluster(contender.workers, folder / "cluster", environment)
    with cluster as running:
        command = contender.command.format(
            input=corpus.folder if corpus is not None else "",
            output=folder / "output",
            events=folder / "events",
            master=running.master,
            bench=BENCH,
            size=size,
        )
        log = folder / "log"
        usage = measure(shlex.split(command), log, environment, beside=running.pids)
    if usage.exit_code != 0:
        trial.failure = f"exit code {usage.exit_code}: {tail(log)}"
        return
    trial.usages.append(usage)
    trial.said = _said(folder)


def _said(folder: Path) -> dict[str, float]:
    """Numbers that a run left behind: those in its last line, its shuffles, its manifest."""
    said: dict[str, float] = {}
    lines = (folder / "log").read_text(errors="replace").splitlines()
    if lines and lines[-1].startswith("{"):
        said |= json.loads(lines[-1])
    if any((folder / "events").iterdir()):
        said["shuffle_bytes"] = shuffle_bytes(folder / "events")
    manifest = folder / "output" / "manifest.json"
    if manifest.exists():
        said["manifest_kb"] = manifest.stat().st_size / 1e3
    return said


def _compare(trials: list[Trial], work: Path) -> None:
    first, *others = [trial for trial in trials if trial.failure is None] or [None]
    if first is None or not others:
        return
    ours = read_result(work / "runs" / first.place / "output")
    for trial in others:
        differs = disagreement(ours, read_result(work / "runs" / trial.place / "output"))
        if differs is not None:
            trial.failure = f"disagrees with {first.place}: {differs}"


def compare_ranks(trial: Trial, other: Trial, work: Path) -> None:
    """Notes where two cases of the same rollouts in other files do not find the same ranks and scores."""
    if trial.failure is None and other.failure is None:
        mine, theirs = (read_result(work / "runs" / one.place / "output") for one in (trial, other))
        differs = disagreement(theirs, mine, with_scores=False)
        if differs is not None:
            trial.failure = f"disagrees with {other.place}: {differs}"


def _read_once(shard: Path) -> None:
    with open(shard, "rb", buffering=0) as file:
        while file.read(2**24):
            pass


def _environment() -> dict[str, str]:
    beside_python = str(Path(sys.executable).parent)
    ours = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {
        **ours,  # what pip has installed is compiled
        "PATH": f"{beside_python}:{os.environ['PATH']}",
        "PYTHONPATH": str(BENCH.parent),
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONUNBUFFERED": "1",
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
