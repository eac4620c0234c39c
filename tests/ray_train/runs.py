"""Runs driven by a process of their own, and what a run must have come to however it got there."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import fields
from itertools import groupby
from pathlib import Path

from conftest import ROLLOUTS, check_learned_the_same, last_checkpoint
from sample_logs import read_sample_logs

from ray_train.checkpoints.lease import LEASE
from ray_train.checkpoints.state import read_cursor
from ray_train.config import TrainConfig

TOTAL = sum(ROLLOUTS.values())
STEPS = -(-TOTAL // 6)


def check_exact(output: str, reference: str, ranks: list[int]) -> None:
    """The run learned what the reference did, each rollout once; ``ranks``: those of each of its starts."""
    check_learned_the_same(output, reference)
    checkpoint = last_checkpoint(output)
    assert read_cursor(checkpoint).step == STEPS
    lines = read_sample_logs(checkpoint)
    assert Counter(row for line in lines for row in line["rows"]) == Counter(range(TOTAL))
    rollouts = Counter(rollout for line in lines for rollout in line["rollout_ids"])
    assert len(rollouts) == TOTAL
    assert set(rollouts.values()) == {1}
    logs = sorted(file.name for file in Path(checkpoint.removeprefix("file://"), "samples").iterdir())
    assert [len(list(start)) for _, start in groupby(logs, lambda name: name.split("-")[1])] == ranks
    assert not Path(output, LEASE).exists()


def start_driver(config: TrainConfig, before: str = "", **environment: str) -> "subprocess.Popen[bytes]":
    """``bisieve train`` in another process, which does ``before``, some Python, at first."""
    words = []
    for item in fields(config):
        if item.type is not bool:
            words += [f"--{item.name.replace('_', '-')}", str(getattr(config, item.name))]
    code = f"{before}\nimport sys\nfrom bisieve.cli.main import main\nsys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", code, "train", *words],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
    )
