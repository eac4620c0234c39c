"""Runs driven by a process of their own, and what a run must have come to however it got there."""

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import fields
from itertools import groupby
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load

from bisieve.io import storage, urls
from ray_train.checkpoints.state import read_cursor
from ray_train.config import TrainConfig
from ray_train.config_io import add_options, read_config
from ray_train.model.metadata import read_card
from ray_train.registry.files import LEASE
from support import forked_workers
from support.sample_logs import loss_curve, read_sample_logs
from support.small_corpus import ROLLOUTS, Corpus

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
    """``bisieve train`` in a fork of the server, which does ``before``, some Python, at first."""
    words = []
    for item in fields(config):
        if item.type is not bool:
            words += [f"--{item.name.replace('_', '-')}", str(getattr(config, item.name))]
    code = f"{before}\nimport sys\nfrom bisieve.cli.main import main\nsys.exit(main())"
    return subprocess.Popen(
        [sys.executable, forked_workers.__file__, "program", "-c", code, "train", *words],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
    )


def resolved(*argv: str) -> Any:
    """The config of a training run with these options beside those that must be given."""
    parser = argparse.ArgumentParser()
    add_options(parser, TrainConfig)
    needed = ["--index", "i", "--image-root", "r", "--backbone", "b", "--output", "o"]
    return read_config(TrainConfig, parser.parse_args([*needed, *argv]))


def small_run(corpus: Corpus, backbone: Path, output: str) -> dict[str, Any]:
    """The options of a training run of eight steps."""
    return {
        "index": corpus.index, "image_root": corpus.images, "backbone": str(backbone), "output": output,
        "fraction": 1.0, "zero_stage": 1, "global_batch": 6, "micro_batch": 2, "pack_tokens": 200,
        "max_tiles": 1, "learning_rate": 1e-3, "max_failures": 0, "checkpoint_every": 2,
        "system": "none", "gradient_checkpointing": False,
    }  # fmt: skip


def flags(options: dict[str, Any]) -> list[str]:
    """Return ``options`` as words of a command line."""
    words: list[str] = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        words += (
            [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
        )
    return words


def learned_weights(output: str) -> dict[str, torch.Tensor]:
    """The weights of the model at ``output``."""
    return load(storage.read_bytes(urls.join(output, "model.safetensors")))


def last_checkpoint(output: str) -> str:
    """The URL of the last *committed* checkpoint of the run at ``output``: Ray Train would resume from it."""
    run = urls.join(output, "runs", json.loads(storage.read_bytes(urls.join(output, "run.json")))["run"])
    snapshot = json.loads(storage.read_bytes(urls.join(run, "checkpoint_manager_snapshot.json")))
    return urls.join(run, snapshot["latest_checkpoint_result"]["checkpoint_dir_name"])


def check_learned_the_same(output: str, reference: str) -> None:
    """Two runs over the same batches have the same losses at every step, and weights, but for rounding."""
    curve, expected_curve = (loss_curve(last_checkpoint(run)) for run in (output, reference))
    assert curve == pytest.approx(expected_curve, rel=1e-5)
    card, expected = read_card(output), read_card(reference)
    assert card is not None
    assert expected is not None
    assert card["metrics"]["mean_loss"] == pytest.approx(expected["metrics"]["mean_loss"], rel=1e-5)
    assert card["metrics"]["loss"] == pytest.approx(expected["metrics"]["loss"], rel=1e-5)
    learned = learned_weights(output)
    for name, tensor in learned_weights(reference).items():
        # Adam's first steps turn rounding noise of tiny gradients into steps of the learning rate.
        assert (learned[name] - tensor).abs().mean() < 1e-4, name


def worker_pids() -> list[int]:
    """The training processes of the Ray that this process has started, the newest last."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            if "ray::RayTrainWorker" in " ".join(process.cmdline()):
                found.append((process.create_time(), process.pid))
    return [pid for _, pid in sorted(found)]
