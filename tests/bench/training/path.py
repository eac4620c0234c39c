"""Runs the benchmark of the data path, writes ``results/path.txt``; exit code 1 for a missed bound.

From a shard and JPEG files to packs: how many rollouts a second with 0, 1, 2 … data workers, and for what
share of its steps a model that trains on the packs has to wait: at most 5 % with as many data workers as a
run on this machine has unless told otherwise.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from bench.training.models import SIZES, build_model
from bench.training.path_corpus import SHAPE, make_corpus, make_packer
from bench.training.rollouts import PER_PROMPT, STEPS
from ray_train.data.images import ImageReader
from ray_train.data.labels import Targets
from ray_train.data.loader import Prefetcher, RankLoader
from ray_train.data.packing import Packer
from ray_train.data.sampler import BatchPlan, prompts_of
from ray_train.data.workers import BY_THE_MACHINE, chosen_workers
from ray_train.model.packed_attention import read_packs
from ray_train.model.reward import RewardModel, reward_loss

MOST_WAITING = 0.05  # of a step
RESULTS = Path(__file__).parents[1] / "results" / "path.txt"


def main(arguments: list[str] | None = None) -> int:
    """Parses, runs, reports; the exit code."""
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(prog="make bench-train", description="the benchmark of the data path")
    add = parser.add_argument
    add("--workers", nargs="+", type=int, default=[0, 1, 2, 4, 8] if on_gpu else [0, 1, 2], metavar="N")
    add("--size", choices=SIZES, default="1b" if on_gpu else "tiny")
    add("--prompts", type=int, default=64 if on_gpu else 8, help="of three rollouts each, in a global batch")
    add("--steps", type=int, default=4, help="optimizer steps; the first one is not counted")
    add("--pack-tokens", type=int, default=8192)
    add("--results", type=Path, default=RESULTS, metavar="FILE")
    args = parser.parse_args(arguments)
    size, usual = SIZES[args.size], chosen_workers(BY_THE_MACHINE, len(os.sched_getaffinity(0)), 1)
    numbers = sorted({*args.workers, usual})
    packer = make_packer(args.pack_tokens, size.side, size.tile_tokens)
    with tempfile.TemporaryDirectory(prefix="bisieve-path-") as name:
        cut = make_corpus(Path(name), args.prompts * args.steps)
        plan = BatchPlan(
            cut.fingerprint, cut.rows.num_rows, (), 0, 1, args.prompts * PER_PROMPT, prompts_of(cut), True
        )
        targets = Targets(cut.rows, np.ones(cut.rows.num_rows), "hard", 0.0)
        feeds = [
            RankLoader(cut, plan, packer.reader.encoder, packer, ImageReader(name), targets, 1, 0, 1, workers)
            for workers in numbers
        ]
        alone = [_path_alone(feed) for feed in feeds]
        trained = [_trained(feed, args.size, packer) for feed in feeds]
    said, holds = _verdict(usual, trained[numbers.index(usual)][1])
    table = _table(args.size, numbers, alone, trained)
    text = "\n".join([_machine(), "", *table, f"{'holds ' if holds else 'MISSED'}  {said}"])
    print(text)
    args.results.write_text(text + "\n", encoding="utf-8")
    return 0 if holds else 1


def _verdict(workers: int, waiting: float) -> tuple[str, bool]:
    said = f"{waiting:.1%} of a step waiting with {workers}, the default here, at most {MOST_WAITING:.0%}"
    return said, waiting <= MOST_WAITING


def _path_alone(feed: RankLoader) -> float:
    """Rollouts a second, from the first pack on: not counted is how long data workers take to start."""
    batches = feed.batches(0)
    next(batches)
    started = time.perf_counter()
    rollouts = sum(len(batch.rows) for batch in batches)
    return rollouts / (time.perf_counter() - started)


def _trained(feed: RankLoader, size: str, packer: Packer) -> tuple[float, float]:
    """Seconds a step, and the share of them that was waited, over all steps but the first."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build_model(SIZES[size], device, packer.reader.slot_id)
    read_packs(model)
    yes, no = packer.reader.encoder.processor.tokenizer.convert_tokens_to_ids(["Yes", "No"])
    reward = RewardModel(model, packer.reader.encoder.marker_id, yes, no)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    prefetcher = Prefetcher(feed.batches(0), feed.filler())
    started = waited = 0.0
    for step in range(feed.plan.total_steps):
        if step == 1:
            started, waited = time.perf_counter(), prefetcher.waited
        last = False
        while not last:
            batch = prefetcher.take().to(device)
            last = batch.last
            loss = reward_loss(reward(batch.inputs), batch.labels, batch.weights)
            (loss / (feed.plan.global_batch * STEPS)).backward()
        optimizer.step()
        optimizer.zero_grad()
        float(loss.detach())  # waits for the device
    seconds = time.perf_counter() - started
    waited = prefetcher.waited - waited
    prefetcher.close()
    if prefetcher.error:
        raise prefetcher.error
    return seconds / (feed.plan.total_steps - 1), waited / seconds


def _machine() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    busy = os.getloadavg()[0]
    return (
        f"{device}, {len(os.sched_getaffinity(0))} cores (load {busy:.0f}), "
        f"{torch.get_num_threads()} threads for the model, torch {torch.__version__}\n"
        f"JPEG images of {SHAPE[1]} × {SHAPE[0]} in 7 tiles, {PER_PROMPT} rollouts each, on a local disk"
    )


def _table(
    size: str, workers: Sequence[int], alone: Sequence[float], trained: Sequence[tuple[float, float]]
) -> list[str]:
    lines = [
        f"{'data workers':<14}{'rollouts/s, path alone':>24}{size + ', s/step':>16}{'of it waiting':>16}"
    ]
    for number, rate, (seconds, share) in zip(workers, alone, trained, strict=True):
        lines.append(f"{number:<14}{rate:>24.2f}{seconds:>16.3f}{share:>16.1%}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
