"""Make the runs of the study that are not made yet, and print what they show.

``make study`` makes all of them, hours of two cores; it can be stopped and started at any time, and what is
finished is never repeated. ``make study-small`` makes ten minutes of them.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench.study.grid import Run, small_study, whole_study

RESULTS = Path(__file__).parents[1] / "results"
# One thread a process; and freed memory is kept, which costs more to map again than a small model's step.
OF_A_PROCESS = {
    "OMP_NUM_THREADS": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the options, make the runs, print the report."""
    parser = argparse.ArgumentParser(prog="make study", description="the study of selections")
    add = parser.add_argument
    add("--small", action="store_true", help="ten minutes: two corpora, two seeds")
    add("--processes", type=int, default=2, help="runs at once, a core each (default: 2)")
    add("--hours", type=float, default=1e6, help="start no run after so many hours")
    add("--work", type=Path, default=Path(".bench/study"), help="where corpora are (default: .bench/study)")
    add("--results", type=Path, help="the Parquet file of the results")
    add("--only-report", action="store_true", help="make no run")
    add("--page", type=Path, help="write the tables into this page, docs/study.md")
    args = parser.parse_args(arguments)
    runs = small_study() if args.small else whole_study()
    name = "study-small.parquet" if args.small else "study.parquet"
    path = args.results or (args.work if args.small else RESULTS) / name
    if not args.only_report:
        make_runs(runs, path, args.work.resolve(), args.processes, args.hours * 3600)

    from bench.study.report import report, written_into
    from bench.study.results import read_results

    rows = read_results(path)
    print(report(rows))
    if args.page:
        args.page.write_text(written_into(args.page.read_text(encoding="utf-8"), rows), encoding="utf-8")
    return 0


def make_runs(runs: list[Run], path: Path, work: Path, processes: int, seconds: float) -> None:
    """Make the runs that are not among the results, several at once, and add each result when it is there."""
    from bench.study.results import add_result, key_of, read_results

    known = {row["key"] for row in read_results(path)}
    left = [run for run in runs if key_of(run) not in known]
    print(f"{len(runs)} runs, {len(runs) - len(left)} are made", file=sys.stderr, flush=True)
    os.environ.update(OF_A_PROCESS)
    started, made = time.monotonic(), 0
    queue = iter(left)
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        working: dict[Future[dict[str, Any]], Run] = {}
        while True:
            while len(working) < processes and time.monotonic() - started < seconds:
                if (run := next(queue, None)) is None:
                    break
                working[pool.submit(_performed, run, work)] = run
            if not working:
                return
            for done in wait(working, return_when=FIRST_COMPLETED).done:
                run = working.pop(done)
                add_result(path, run, found := done.result())
                made += 1
                line = f"{made}/{len(left)} {run.regime} corpus {run.corpus} seed {run.seed} {run.name} "
                line += f"{run.fraction:.0%} {run.budget}: AUC {found['auc']:.3f}, {found['seconds']:.0f} s"
                print(line, file=sys.stderr, flush=True)


def _performed(run: Run, work: Path) -> dict[str, Any]:
    import torch

    from bench.study.perform import perform  # imported here, in the process that trains

    torch.set_num_threads(1)
    return perform(run, work)


if __name__ == "__main__":
    sys.exit(main())
