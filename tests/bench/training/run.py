"""Runs the benchmark of a training step, writes ``results/training.txt``; exit code 1 for a missed bound.

``make bench-train`` takes the tiny model on a CPU, the 1b and 2b on a GPU; ``BENCH="--sizes 1b"`` a part.
On a GPU it also says how much of it our own step uses: written for one, and never run there yet.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from bench.training.contenders import CONTENDERS
from bench.training.models import SIZES
from bench.training.rollouts import PER_PROMPT, make_prompts
from bench.training.utilization import mfu
from ray_train.estimates.flops import peak_flops

RESULTS = Path(__file__).parents[1] / "results" / "training.txt"
TOLERANCE = {"cpu": 1e-4, "cuda": 2e-2}  # of the losses: float32, bfloat16


def main(arguments: list[str] | None = None) -> int:
    """Parses, runs, reports; the exit code."""
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(prog="make bench-train", description="the benchmark of a training step")
    add = parser.add_argument
    add("--sizes", nargs="+", choices=SIZES, default=["1b", "2b"] if on_gpu else ["tiny"], metavar="SIZE")
    add("--prompts", type=int, default=16 if on_gpu else 4, help="of three rollouts each, in a global batch")
    add("--repeats", type=int, default=3, help="optimizer steps of which the fastest counts")
    add("--results", type=Path, default=RESULTS, metavar="FILE")
    args = parser.parse_args(arguments)
    lines, holds = [_machine()], True
    for size in args.sizes:
        found = {name: _measure(name, size, args.prompts, args.repeats) for name in CONTENDERS}
        batch = make_prompts(args.prompts, SIZES[size])
        tokens = sum(len(ids) for prompt in batch for ids in prompt.rollouts)
        lines += ["", *_table(size, args.prompts * PER_PROMPT, tokens, found)]
        lines += _use(found["ours"], peak_flops(torch.cuda.get_device_name())) if on_gpu else []
        for said, ok in _verdicts(found, TOLERANCE["cuda" if on_gpu else "cpu"]):
            lines.append(f"{'holds ' if ok else 'MISSED'}  {said}")
            holds &= ok
    text = "\n".join(lines)
    print(text)
    args.results.write_text(text + "\n", encoding="utf-8")
    return 0 if holds else 1


def _measure(contender: str, size: str, prompts: int, repeats: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.training.step", contender, size, str(prompts), str(repeats)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(json.loads(output.splitlines()[-1]))


def _machine() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _table(size: str, rollouts: int, tokens: int, found: dict[str, dict[str, Any]]) -> list[str]:
    """Tokens are those of one rollout a row, for all contenders: learned from, not computed."""
    lines = [f"{size:<8}{'s/step':>9}{'rollouts/s':>12}{'tokens/s':>10}{'peak MB':>10}{'loss':>12}"]
    for name, step in found.items():
        seconds = step["seconds"]
        lines.append(
            f"{name:<8}{seconds:>9.3f}{rollouts / seconds:>12.2f}{tokens / seconds:>10.0f}"
            f"{step['memory'] / 1e6:>10.0f}{step['loss']:>12.6f}"
        )
    return lines


def _use(ours: dict[str, Any], peak: float) -> list[str]:
    """How much of a GPU of ``peak`` FLOP/s our step uses, and in what; 0 for a peak that is unknown."""
    share = f"{mfu(ours['flops'], ours['seconds'], peak):.1%} of {peak:.3g}" if peak else "of an unknown peak"
    return [f"ours: MFU {share} FLOP/s, {ours['dtype']}, attention by {', '.join(ours['attention'])}"]


def _verdicts(found: dict[str, dict[str, Any]], tolerance: float) -> list[tuple[str, bool]]:
    paper, plain, ours = (found[name] for name in ("paper", "plain", "ours"))
    faster, than_plain = paper["seconds"] / ours["seconds"], plain["seconds"] / ours["seconds"]
    memory, losses = ours["memory"] / paper["memory"], [step["loss"] for step in found.values()]
    return [
        (f"{faster:.2f} × the rollouts/s of the paper's step, at least 2.0", faster >= 2.0),
        (f"{than_plain:.2f} × those of plain Hugging Face code, at least 1.6", than_plain >= 1.6),
        (f"{memory:.2f} × the memory of the paper's step, at most 0.7", memory <= 0.7),
        (f"losses differ by {max(losses) - min(losses):.1e}", max(losses) - min(losses) <= tolerance),
    ]


if __name__ == "__main__":
    sys.exit(main())
