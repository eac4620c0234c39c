"""Shared fixtures: tiny backbones, a small indexed corpus, one Ray for all tests."""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.forked_workers import ForkServer, fork_workers
from support.handmade import publish_rows
from support.hubs import MODEL_TYPES
from support.runs import small_run
from support.small_corpus import Corpus, make_corpus

from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection
from bisieve.io.disk import locked
from bisieve.shards.listing import list_shards


@pytest.fixture(scope="session")
def internvl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support.backbones import build_internvl

    folder = tmp_path_factory.mktemp("internvl")
    build_internvl(folder)
    return folder


@pytest.fixture(scope="session")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support.backbones import build_qwen

    folder = tmp_path_factory.mktemp("qwen")
    build_qwen(folder)
    return folder


@pytest.fixture(scope="session")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support.backbones import build_qwen3

    folder = tmp_path_factory.mktemp("qwen3")
    build_qwen3(folder)
    return folder


@pytest.fixture(params=["internvl", "qwen", "qwen3"])
def folder(request: pytest.FixtureRequest) -> Path:
    """A backbone of each family."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def built_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """A folder of that name, built once for all processes of pytest: the real vocabularies take seconds."""
    root = factory.getbasetemp()
    hub = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "hub"
    hub.mkdir(exist_ok=True)
    folder: Path = hub / name
    with locked(f"{folder}.lock"):
        if not folder.exists():
            unfinished = hub / f"{name}.unfinished"
            unfinished.mkdir()
            build(unfinished)
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session", params=MODEL_TYPES)
def hub_checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint, odd where the hub's are, in a folder of its name."""
    from support.hub_checkpoints import CHECKPOINTS

    return built_once(tmp_path_factory, request.param, CHECKPOINTS[request.param])


@pytest.fixture(scope="session")
def internvl_8b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An InternVL3-8B without weights."""
    from support.hub_checkpoints import internvl_3_8b

    return built_once(tmp_path_factory, "internvl-8b", internvl_3_8b)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """43 rollouts of two sources with their index, and a benchmark of 24 solutions."""
    return make_corpus(tmp_path_factory.mktemp("corpus"))


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


@pytest.fixture(scope="session")
def ray_cluster(s3: str, forks: ForkServer) -> Iterator[None]:
    """One local Ray for all tests; it comes after the S3 server, whose environment its workers need."""
    from ray._raylet import Config

    from ray_train.cluster import cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_metrics_report_interval_ms", "2000")  # 10 s else
        for name, value in forks.environment.items():
            patch.setenv(name, value)
        Config.initialize("")  # else Ray keeps what there was when a test imported it
        fork_workers()
        with cluster(4):
            yield


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A process group of this process alone."""
    import torch.distributed as dist

    store = tmp_path_factory.mktemp("group") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCAL_RANK", "0")  # DeepSpeed asks for it
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
        yield
        dist.destroy_process_group()


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
    from ray_train.training.driver import train

    output = str(tmp_path_factory.mktemp("trained") / "output")
    config = TrainConfig(**small_run(corpus, internvl, output))
    train(config)
    return config


@pytest.fixture
def stall(corpus: Corpus, trained: Any, tmp_path: Path) -> Any:
    """Holds up one training run after the other, each later than the one before."""
    from support.stall import Stall

    folder = tmp_path / "images"
    folder.mkdir()
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return Stall(corpus, trained, folder, seed)
