"""What a step costs: exact counts over all ranks, and no figure for what is not known."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from support.event_files import scalars
from support.prompts import PROMPTS, backbone_of
from support.runs import last_checkpoint
from support.sample_logs import read_sample_logs

from ray_train.config import TrainConfig
from ray_train.data.encode import filler
from ray_train.data.loader import Prefetcher
from ray_train.estimates.flops import model_cost, token_counts
from ray_train.estimates.throughput import Meter

CPU = torch.device("cpu")


@pytest.fixture
def one_rank() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_a_step_is_counted_without_padding_and_fillers(one_rank: None, internvl: Path) -> None:
    backbone, encoder = backbone_of(internvl)
    cost, feed = model_cost(backbone), SimpleNamespace(waited=1.0)
    batches = [encoder.encode(PROMPTS[0]), encoder.encode([filler()])]
    meter = Meter(cost, 1e12, CPU, feed)
    for _ in range(2):  # a second step begins anew
        meter.start()
        for batch in batches:
            meter.add(batch)
        time.sleep(0.05)
        feed.waited += 0.02
        metrics = meter.read()
        seconds = len(PROMPTS[0]) / metrics["rollouts_per_second"]
        assert 0.05 <= seconds < 5
        tokens, places = token_counts(batches[0])
        assert metrics["tokens_per_second"] == pytest.approx(tokens / seconds)
        assert metrics["padding_share"] == pytest.approx(1 - tokens / (places + token_counts(batches[1])[1]))
        assert metrics["data_wait_share"] == pytest.approx(0.02 / seconds)
        assert metrics["mfu"] == pytest.approx(cost.flops(batches[0]) / seconds / 1e12)
        assert 0.05 < metrics["memory_gb"] < 50


def test_without_a_known_peak_there_is_no_mfu(one_rank: None, internvl: Path) -> None:
    meter = Meter(model_cost(backbone_of(internvl)[0]), 0.0, CPU, SimpleNamespace(waited=0.0))
    assert "mfu" not in meter.read()


def test_the_feed_says_how_long_it_was_waited_for(internvl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = backbone_of(internvl)[1]
    batch = replace(encoder.encode([filler()]), last=True)
    now, is_waited_for, is_ready = 0.0, threading.Event(), threading.Event()

    def clock() -> float:
        is_waited_for.set()
        return now

    def slow() -> Iterator[object]:
        nonlocal now
        assert is_waited_for.wait(60)
        now += 3.0
        yield batch
        yield batch
        is_ready.set()

    monkeypatch.setattr("ray_train.data.loader.time", SimpleNamespace(perf_counter=clock))
    prefetcher = Prefetcher(slow(), batch)  # type: ignore[arg-type]
    prefetcher.take()
    assert prefetcher.waited == 3.0
    assert is_ready.wait(60), "while the model is at work"
    prefetcher.take()
    assert prefetcher.waited == 3.0
    prefetcher.close()


def test_a_run_shows_what_both_its_ranks_did(trained: TrainConfig) -> None:
    (folder,) = (Path(trained.output) / "tensorboard").iterdir()
    curves = scalars(folder)
    rows: Counter[int] = Counter()
    for line in read_sample_logs(last_checkpoint(trained.output)):
        rows[line["step"] + 1] += len(line["rows"])
    assert rows.keys() == curves["rollouts_per_second"].keys() == curves["loss"].keys()
    for step, count in rows.items():
        seconds = count / curves["rollouts_per_second"][step]
        tokens = curves["tokens_per_second"][step] * seconds
        assert tokens == pytest.approx(round(tokens), abs=0.01), "tokens of both ranks are a whole number"
        assert 0 <= curves["padding_share"][step] < 1
        assert 0 <= curves["data_wait_share"][step] <= 1
        assert curves["memory_gb"][step] > 0.05
    # The order of the rollouts comes from where the corpus lies: in some steps one rank has a pack less.
    assert 0 in curves["padding_share"].values(), "packs have no padding"
    assert curves["padding_share"][max(rows)] > 0, "the second rank had a filler"
    assert "mfu" not in curves
