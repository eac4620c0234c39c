"""Runs the benchmark of scoring and exits with 1 when a requirement is not met.

``make bench`` runs all of it, ``make bench BENCH="--only rollouts --sizes 0.1 1"`` a part.
"""

import argparse
import sys
from pathlib import Path

from bench import report
from bench.benchmark import run_plan
from bench.plan import read_plan

HERE = Path(__file__).parent


def main(arguments: list[str] | None = None) -> int:
    """Parses, runs, reports; the exit code."""
    parser = argparse.ArgumentParser(prog="make bench", description="the benchmark of scoring")
    add = parser.add_argument
    add("--plan", type=Path, default=HERE / "scoring.toml", metavar="FILE")
    add("--only", nargs="+", default=[], metavar="CASE", help="some cases (default: all)")
    add("--sizes", nargs="+", type=float, default=[], metavar="SIZE", help="some sizes (default: all)")
    add("--scale", type=float, default=1.0, help="makes every corpus so many times as large")
    add("--work", type=Path, default=Path(".bench"), help="where corpora and runs go (default: .bench)")
    add("--results", type=Path, default=HERE / "results", help="where the report goes")
    args = parser.parse_args(arguments)
    try:
        plan = read_plan(args.plan).only(args.only, args.sizes)
    except ValueError as error:
        parser.error(str(error))
    outcome = run_plan(plan, args.scale, args.work.resolve(), _say)
    print(report.render(outcome))
    report.write(args.results, outcome)
    return 1 if outcome.failed else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
