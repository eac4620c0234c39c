"""Runs the load test of `bisieve serve`, writes ``results/serving.txt``; exit code 1 if something is wrong.

    PYTHONPATH=tests:lib:. python -m bench.serving.run --minutes 30

Clients ask a server on this machine without a pause, more of them than its queue takes: six of ten requests
are good, the others bad in 18 ways, or their client leaves. Required is that each gets exactly one answer and
the right one (rewards equal to those of a `StepScorer`, or the status of its fault), that the server counted
the same answers as the clients, that memory does not grow (`memory.MOST_GROWTH`), and that SIGTERM ends the
server in one line. The model is tiny, so that the server is tested and not the model; ``--model`` takes
another.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import requests

from bench.serving.clients import Count, ask_until
from bench.serving.memory import MOST_GROWTH, Samples, growing, growth, watched
from bench.serving.mix import LIMITS, bad_requests, good_requests

RESULTS = Path(__file__).parents[1] / "results" / "serving.txt"
_COUNTED = re.compile(r'bisieve_serve_requests_total\{path="(.+?)",status="(\d+)"\} ([\d.e+]+)')
_TOLERANCE = 1e-6


def main(arguments: list[str] | None = None) -> int:
    """Parses, runs, reports; the exit code."""
    parser = argparse.ArgumentParser(prog="make bench-serving", description="the load test of bisieve serve")
    add = parser.add_argument
    add("--minutes", type=float, default=30.0)
    add("--clients", type=int, default=24)
    add("--queue", type=int, default=20, help="--max-queue of the server")
    add("--replicas", type=int, default=1)
    add("--model", help="folder of a model (default: a tiny one, made here)")
    add("--seed", type=int, default=0)
    add("--results", type=Path, default=RESULTS, metavar="FILE")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bisieve-serving-") as folder:
        model = args.model or _tiny_model(Path(folder))
        good, bad = good_requests(model, args.seed), bad_requests()
        words = ["--max-queue", str(args.queue), "--num-replicas", str(args.replicas)]
        with _serving(model, words, Path(folder)) as (process, url, errors):
            end = time.monotonic() + 60 * args.minutes
            with watched(process.pid) as samples:
                count = ask_until(end, url, good, bad, args.clients, _TOLERANCE, args.seed)
            counted, health = _counted(url), requests.get(f"{url}/health", timeout=60).status_code
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
        said = errors.read_text().splitlines()
    faults = _faults(count, counted, samples, health, code, said)
    lines = [*_report(args, count, samples), *(faults or ["nothing wrong"])]
    print("\n".join(lines))
    args.results.write_text("\n".join(lines) + "\n")
    return 1 if faults else 0


def _tiny_model(folder: Path) -> str:
    from support.backbones import build_internvl
    from support.published import publish

    (folder / "backbone").mkdir()
    build_internvl(folder / "backbone")
    publish(folder / "backbone", folder / "model")
    return str(folder / "model")


@contextmanager
def _serving(
    model: str, words: Sequence[str], folder: Path
) -> Iterator[tuple["subprocess.Popen[str]", str, Path]]:
    """Start the server; yields its process, its URL, and the file that gets its stderr."""
    limits = [word for name, value in LIMITS.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "bisieve", "serve", "--model", model, "--port", "0", *limits, *words]
    errors = folder / "stderr"
    with (
        errors.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if ready := re.match(r"ready: (http\S+);", line):
                try:
                    yield process, ready[1], errors
                finally:
                    process.kill()
                return
    sys.exit(f"the server ended:\n{''.join(lines)}{errors.read_text()}")


def _counted(url: str) -> Counter[str]:
    """The answers that the server has counted, by path and status."""
    text = requests.get(f"{url}/metrics", timeout=60).text
    return Counter(
        {f"{path} {status}": int(float(number)) for path, status, number in _COUNTED.findall(text)}
    )


def _faults(
    count: Count, counted: Counter[str], samples: Samples, health: int, code: int, said: Sequence[str]
) -> list[str]:
    faults = [f"WRONG: {len(count.wrong)} answers, such as {count.wrong[0]}"] if count.wrong else []
    seen = Counter({name: n for name, n in count.statuses.items() if not name.endswith((" 404", " 405"))})
    # Where the queue is full, a client that leaves is answered, too, and does not read it.
    unread = counted["/score 503"] - seen["/score 503"]
    expected = seen + Counter({"/score 503": unread})
    if not 0 <= unread <= count.asked["client leaves"] or counted != expected:
        faults.append(f"WRONG: the server counted {dict(counted)}, the clients {dict(seen)}")
    faults += [f"GROWS: {name}, {growth(samples[name]):.2f} MB/min" for name in growing(samples)]
    if health != 200:
        faults.append(f"WRONG: /health answers {health}")
    if code != 143 or len(said) != 1 or "terminated" not in said[0]:
        faults.append(f"WRONG: SIGTERM ends it with {code} and {said}")
    return faults


def _report(args: argparse.Namespace, count: Count, samples: Samples) -> list[str]:
    total, seconds = sum(count.asked.values()), np.array(count.seconds or [np.nan])
    kinds = "tiny InternVL" if not args.model else args.model
    load = os.getloadavg()[0]
    return [
        f"{kinds}, {os.cpu_count()} cores (load {load:.0f}), {args.replicas} replica, "
        f"--max-queue {args.queue}, {args.clients} clients, {args.minutes:g} minutes",
        "",
        f"requests {total:,} of {len(count.asked)} kinds, {len(count.seconds):,} of them good; "
        f"{total / 60 / args.minutes:.1f} a second",
        f"seconds of a good one, with waits while the queue was full: median {np.median(seconds):.3f}, "
        f"99 % {np.percentile(seconds, 99):.3f}, most {seconds.max():.3f}",
        f"answers {sum(count.statuses.values()):,}, of them {count.busy:,} 503; the client asked again",
        f"wrong or lost: {len(count.wrong)}",
        "",
        f"{'process':<20}{'RSS MB: first':>14}{'at 1/3':>9}{'last':>9}{'most':>9}"
        f"{'MB/min':>9}{'kB/request':>12}",
        f"growth is that over the last two thirds, and at most {MOST_GROWTH:g} MB/min",
        *(_memory_line(name, each, total / args.minutes) for name, each in samples.items()),
        "",
    ]


def _memory_line(name: str, samples: Sequence[tuple[float, float]], per_minute: float) -> str:
    sizes = [size for _, size in samples]
    chosen = (sizes[0], sizes[len(sizes) // 3], sizes[-1], max(sizes))
    cells = "".join(f"{size:>9.0f}" for size in chosen[1:])
    grown = growth(samples)
    return f"{name.split()[0]:<20}{chosen[0]:>14.0f}{cells}{grown:>9.2f}{1000 * grown / per_minute:>12.2f}"


if __name__ == "__main__":
    sys.exit(main())
