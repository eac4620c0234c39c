"""A small corpus, written once."""

import json
from pathlib import Path
from typing import Any

import pytest

from bisieve.synthetic.corpus import write_corpus
from bisieve.synthetic.corpus_config import CorpusConfig

SMALL = CorpusConfig(rollouts=1_500, images=150, benchmark=120, seed=3)


@pytest.fixture(scope="session")
def small_config() -> CorpusConfig:
    return SMALL


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(str(folder), SMALL)
    return folder


@pytest.fixture(scope="session")
def small_rollouts(small_corpus: Path) -> dict[str, list[dict[str, Any]]]:
    """The records of every shard, by source."""
    return {path.stem: read_lines(path) for path in sorted(small_corpus.glob("annotations/*.jsonl"))}


@pytest.fixture(scope="session")
def small_benchmark(small_corpus: Path) -> list[dict[str, Any]]:
    return read_lines(small_corpus / "benchmark.jsonl")


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
