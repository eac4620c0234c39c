r"""Compare the rewards of a model that vLLM serves with those of bisieve's own scorer.

    python compare_with_vllm.py --model model --benchmark corpus/benchmark.jsonl --image-root corpus \
        --vllm /path/to/another/environment/bin/vllm -- --gpu-memory-utilization 0.4

It starts ``vllm serve MODEL --config MODEL/vllm.yaml`` (vLLM has an environment of its own) with the options
after ``--``, or asks a server that is running (--server), sends the first solutions of a benchmark one by one
and several at a time, and prints the largest difference of P(right) of a step. It ends with 1 if that is
above --tolerance.

Where model and vLLM compute in bf16, expect differences of about 0.01; in fp32 they are below 1e-6.
"""

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

PORT = 8765


def main() -> int:
    """Compare, print the largest difference, and return the exit code."""
    options = parsed()
    solutions = read(options.benchmark, options.image_root, options.solutions)
    # The server first, so that not both load their model at the same time.
    with contextlib.nullcontext(options.server) if options.server else served(options) as url:
        from ray_train import StepClient, StepScorer

        alone, times = timed(StepClient(url, options.model, workers=1), solutions)
        together, at_once = timed(StepClient(url, options.model, workers=16), solutions)
    own, seconds = timed(StepScorer(options.model), solutions)
    print(
        f"{len(solutions)} solutions: vLLM {times:.1f} s one by one, {at_once:.1f} s with 16 requests at once"
    )
    print(f"and their images in its cache; bisieve {seconds:.1f} s in one batch")
    worst = max(difference(own, alone), difference(own, together))
    known = [reward for rewards in own for reward in rewards if not math.isnan(reward)]
    # Rewards that are all alike would be equal whatever the server does with images and positions.
    print(f"rewards of {len(known)} steps: {min(known):.2f} to {max(known):.2f}, by bisieve")
    print(f"largest difference: {worst:.1e}")
    return int(worst > options.tolerance)


def timed(judge: Any, solutions: list[Any]) -> tuple[list[list[float]], float]:
    """Return the rewards of ``judge``, and the seconds that they took."""
    start = time.monotonic()
    return judge.score_batch(solutions), time.monotonic() - start


def parsed() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="folder that bisieve train wrote")
    parser.add_argument("--benchmark", required=True, help="JSONL file in VisualProcessBench's schema")
    parser.add_argument("--image-root", required=True, help="folder of its images")
    parser.add_argument("--solutions", type=int, default=24, help="how many of the file (default: 24)")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="default: 1e-5")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--vllm", help="the vllm program of vLLM's environment")
    where.add_argument("--server", help="URL of a server of this model that is running")
    parser.add_argument("options", nargs="*", help="after --: more options of vllm serve")
    return parser.parse_args()


def read(benchmark: str, image_root: str, number: int) -> list[Any]:
    """Return question, images and steps of the first solutions."""
    records = [json.loads(line) for line in Path(benchmark).read_text("utf-8").splitlines()[:number]]
    return [
        (each["question"], [Path(image_root, name) for name in each["image"]], each["response"]["steps"])
        for each in records
    ]


@contextlib.contextmanager
def served(options: argparse.Namespace) -> Iterator[str]:
    """Start vLLM and yield its URL when it answers; it ends with the block."""
    words = [options.vllm, "serve", options.model, "--config", f"{options.model}/vllm.yaml"]
    words += ["--host", "127.0.0.1", "--port", str(PORT), "--trust-request-mm-kwargs", "--enforce-eager"]
    words += options.options
    url = f"http://127.0.0.1:{PORT}"
    outside = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(words, stdout=log, stderr=log, env=outside)
        try:
            while not answers(url):
                if server.poll() is not None:
                    sys.exit(f"vLLM ended:\n{first_error(log)}")
                time.sleep(1)
            yield url
        finally:
            server.terminate()
            server.wait()


def first_error(log: IO[bytes]) -> str:
    """Return the first error in a log of vLLM, which is the cause of those that follow, or its last lines."""
    log.seek(0)
    lines = log.read().decode(errors="replace").splitlines()
    errors = [line for line in lines if "Error: " in line]
    return errors[0] if errors else "\n".join(lines[-40:])


def answers(url: str) -> bool:
    """Return whether a server is ready at ``url``."""
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
        return True
    return False


def difference(one: list[list[float]], other: list[list[float]]) -> float:
    """Return the largest difference of two rewards of a step; infinite if only one of them is a number."""
    pairs = [pair for two in zip(one, other, strict=True) for pair in zip(*two, strict=True)]
    gaps = [0.0 if math.isnan(a) and math.isnan(b) else abs(a - b) for a, b in pairs]
    return max(math.inf if math.isnan(gap) else gap for gap in gaps)


if __name__ == "__main__":
    sys.exit(main())
