"""Shared fixtures: tiny backbones, a small indexed corpus, one Ray for all tests."""

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from handmade import publish_rows
from PIL import Image
from safetensors.torch import load, load_file, save_file
from sample_logs import loss_curve

from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection
from bisieve.io import storage
from bisieve.io.conditional import locked
from bisieve.io.file_names import file_stem
from bisieve.scoring import balanced_information_score
from bisieve.shards.listing import list_shards
from ray_train.model.metadata import read_card

sys.path.insert(0, str(Path(__file__).parent))  # for the backbones

from backbones import build_internvl, build_qwen, build_qwen3
from hub_checkpoints import CHECKPOINTS, internvl_3_8b

torch.set_num_threads(1)

ROLLOUTS = {"adding": 31, "reading": 12}  # by source


@dataclass(frozen=True)
class Corpus:
    """Where a small corpus lies."""

    index: str
    images: str  # the image root
    benchmark: str
    shards: Path


@pytest.fixture(scope="session")
def internvl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("internvl")
    build_internvl(folder)
    return folder


@pytest.fixture(scope="session")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen")
    build_qwen(folder)
    return folder


@pytest.fixture(scope="session")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen3")
    build_qwen3(folder)
    return folder


@pytest.fixture(params=["internvl", "qwen", "qwen3"])
def folder(request: pytest.FixtureRequest) -> Path:
    """A backbone of each family."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


@pytest.fixture(scope="session", params=CHECKPOINTS)
def hub_checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint, odd where the hub's are, in a folder of its name.

    Each is built once for all processes of pytest: the real vocabularies take seconds.
    """
    root = tmp_path_factory.getbasetemp()
    hub = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "hub"
    hub.mkdir(exist_ok=True)
    folder: Path = hub / request.param
    with locked(f"{folder}.lock"):
        if not folder.exists():
            unfinished = hub / f"{request.param}.unfinished"
            unfinished.mkdir()
            CHECKPOINTS[request.param](unfinished)
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def internvl_8b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An InternVL3-8B without weights."""
    folder = tmp_path_factory.mktemp("internvl-8b")
    internvl_3_8b(folder)
    return folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """43 rollouts of two sources with their index, and a benchmark of 24 solutions."""
    folder = tmp_path_factory.mktemp("corpus")
    shards, images = folder / "shards", folder / "images"
    shards.mkdir()
    images.mkdir()
    for source, count in ROLLOUTS.items():
        lines = [json.dumps(make_record(source, number)) for number in range(count)]
        (shards / f"{source}.jsonl").write_text("\n".join(lines) + "\n")
    for number in range(10):
        Image.new("RGB", (28 + number, 28), (25 * number, 99, 9)).save(images / f"{number}.png")
    index = folder / "index"
    write_index(str(shards), str(index))
    benchmark = folder / "benchmark.jsonl"
    benchmark.write_text("".join(json.dumps(make_solution(number)) + "\n" for number in range(24)))
    return Corpus(str(index), str(images), str(benchmark), shards)


@pytest.fixture(scope="session")
def counted_corpus(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The same corpus with MC counts in its index: a fourth of the rollouts have none, some steps 0."""
    rows = read_selection(open_index(corpus.index), 1.0).rows.to_pylist()
    for place, row in enumerate(rows):
        totals = [16 * ((place + step) % 5 > 0) for step in range(row["num_steps"])]
        counts = [int(score * n) for score, n in zip(row["scores"], totals, strict=True)]
        row |= {"mc_correct": counts, "mc_total": totals} if place % 4 else {}
    index = str(tmp_path_factory.mktemp("counted") / "index")
    publish_rows(index, rows, [str(corpus.shards)], list_shards([str(corpus.shards)]))
    return replace(corpus, index=index)


def write_index(shards: str, index: str) -> None:
    """The index of a folder of rollouts, ranked in plain Python: the trainer needs no Spark."""
    files, rows = list_shards([shards]), []
    for file in files:
        offset, scored = 0, []
        for line in storage.read_bytes(file.url).splitlines(keepends=True):
            record = json.loads(line)
            scores = [step["score"] for step in record["steps_with_score"]]
            span = {"shard": file.url, "offset": offset, "length": len(line)}
            scored.append((-balanced_information_score(scores), offset, scores, span, record["question"]))
            offset += len(line)
        for rank, (bis, start, scores, span, question) in enumerate(sorted(scored), start=1):
            source = file_stem(file.url)
            rows.append({
                "source": source, "rank": rank, "rollout_id": f"{source}-{start}",
                "question_id": question, "bis": -bis,
                "num_steps": len(scores), "scores": scores, "spans": [span],
            })  # fmt: skip
    publish_rows(index, rows, [shards], files)


def make_record(source: str, number: int) -> dict[str, Any]:
    scores = [1.0, 0.5 * (number % 3), float(number % 2)][: 1 + number % 3]
    steps = [
        {
            "step": f"The digit {place} is {number}.",
            "score": score,
            "num_mc_correct": int(16 * score),
            "num_mc_total": 16,
        }
        for place, score in enumerate(scores)
    ]
    question = f"What is sum {number % 10} of {source}?"  # so every tenth rollout has the same prompt
    return {
        "image": f"{number % 10}.png",
        "question": question,
        "question_orig": question,
        "steps_with_score": steps,
    }


def make_solution(number: int) -> dict[str, Any]:
    return {
        "image": [f"{number % 10}.png"],
        "question": f"What is {number}?",
        "answer": "7",
        "response": {"steps": ["I look.", f"It is {number}.", "Final answer: 7"],
                     "process_correctness": [0, 1 if number % 2 else -1, 1 if number % 3 else -1]},
        "policy_model": "none",
        "data_source": "even" if number % 2 else "odd",
    }  # fmt: skip


@pytest.fixture(scope="session")
def ray_cluster(s3: str) -> Iterator[None]:
    """One local Ray for all tests; it comes after the S3 server, whose environment its workers need."""
    from ray_train.cluster import cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_metrics_report_interval_ms", "2000")  # 10 s else
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else a token that this user has locks it
        with cluster(4):
            yield


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A process group of this process alone."""
    store = tmp_path_factory.mktemp("group") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCAL_RANK", "0")  # DeepSpeed asks for it
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
        yield
        dist.destroy_process_group()


def resolved(*argv: str) -> Any:
    """The config of a training run with these options beside those that must be given."""
    from ray_train.config import TrainConfig
    from ray_train.config_io import add_options, read_config

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


@pytest.fixture
def settings(corpus: Corpus, internvl: Path, tmp_path: Path) -> Callable[..., Any]:
    """Makes the config of a small training run; arguments override."""
    from ray_train.config import TrainConfig

    def make(**options: Any) -> TrainConfig:
        return TrainConfig(**{**small_run(corpus, internvl, str(tmp_path / "output")), **options})

    return make


@pytest.fixture(scope="session")
def trained(
    ray_cluster: None, corpus: Corpus, internvl: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """The config of a finished run: two workers, ZeRO 1; of the last batch the second worker has nothing."""
    from ray_train.config import TrainConfig
    from ray_train.train.driver import train

    output = str(tmp_path_factory.mktemp("trained") / "output")
    config = TrainConfig(**small_run(corpus, internvl, output))
    train(config)
    return config


def write_other_weights(folder: Path) -> None:
    """Weights in the place of those in ``folder``, of the same names, shapes and size."""
    file = folder / "model.safetensors"
    size, weights = file.stat().st_size, load_file(file)
    save_file({name: tensor + 1e-3 for name, tensor in weights.items()}, file, {"format": "pt"})
    assert file.stat().st_size == size


def learned_weights(output: str) -> dict[str, torch.Tensor]:
    """The weights of the model at ``output``."""
    return load(storage.read_bytes(storage.join(output, "model.safetensors")))


def last_checkpoint(output: str) -> str:
    """The URL of the last *committed* checkpoint of the run at ``output``: Ray Train would resume from it."""
    run = storage.join(
        output, "runs", json.loads(storage.read_bytes(storage.join(output, "run.json")))["run"]
    )
    snapshot = json.loads(storage.read_bytes(storage.join(run, "checkpoint_manager_snapshot.json")))
    return storage.join(run, snapshot["latest_checkpoint_result"]["checkpoint_dir_name"])


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
    """The training processes of the Ray that this process has started."""
    listing = subprocess.run(
        ["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    ).stdout
    ours = [line.split() for line in listing.splitlines() if "ray::RayTrainWorker" in line]
    raylets = {line.split()[0] for line in listing.splitlines() if line.split()[1] == str(os.getpid())}
    return [int(pid) for pid, parent, *_ in ours if parent in raylets]


@pytest.fixture
def stall(corpus: Corpus, trained: Any, tmp_path: Path) -> Any:
    """Holds up one training run after the other, each later than the one before."""
    from stall import Stall

    folder = tmp_path / "images"
    folder.mkdir()
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return Stall(corpus, trained, folder, seed)
