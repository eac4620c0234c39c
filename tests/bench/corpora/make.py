"""Makes a corpus by its name, or takes the one that was made before."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from bench.corpora.extremes import write_long_lines, write_long_rollout
from bench.corpora.shards import Written, write_rollouts, write_steps
from bench.corpora.sources import SOURCES, Source

EDITION = 1  # to be raised when a maker writes other bytes


@dataclass(frozen=True)
class Corpus:
    """A corpus on disk."""

    folder: str
    bytes: int
    rollouts: int
    steps: int

    @property
    def shards(self) -> list[Path]:
        """Its files."""
        return sorted(Path(self.folder).glob("*.jsonl"))

    @property
    def counts(self) -> dict[str, int]:
        """How large it is."""
        return {
            "bytes": self.bytes,
            "rollouts": self.rollouts,
            "steps": self.steps,
            "shards": len(self.shards),
        }


def make_corpus(name: str, size: float, below: Path) -> Corpus:
    """The corpus ``name`` at ``size`` (1 is the real one's) in a folder below ``below``."""
    folder = below / f"{name}-{size:g}x"
    stamp = folder.with_suffix(f"{folder.suffix}.json")  # written last: without it the folder is half made
    if stamp.exists() and (made := json.loads(stamp.read_text()))["edition"] == EDITION:
        return Corpus(**made["corpus"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    written = MAKERS[name](folder, size)
    corpus = Corpus(
        str(folder),
        sum(shard.stat().st_size for shard in folder.glob("*.jsonl")),
        sum(part.rollouts for part in written),
        sum(part.steps for part in written),
    )
    stamp.write_text(json.dumps({"edition": EDITION, "corpus": asdict(corpus)}))
    return corpus


def _rollouts_at(size: float, source: Source) -> int:
    return max(1, round(source.rollouts * size))


def _over_sources(
    write: Callable[[Path, float, Source], Written], folder: Path, size: float
) -> list[Written]:
    largest_first = sorted(SOURCES, key=lambda source: -source.steps)
    with get_context("forkserver").Pool() as pool:
        return pool.map(partial(write, folder, size), largest_first, chunksize=1)


def _rollouts_shard(folder: Path, size: float, source: Source) -> Written:
    with open(folder / f"{source.name}.jsonl", "wb") as file:
        return write_rollouts(file, source, _rollouts_at(size, source))


def _steps_shards(text_factor: int, folder: Path, size: float, source: Source) -> Written:
    return write_steps(folder, source, _rollouts_at(size, source), text_factor)


def _one_shard(folder: Path, size: float) -> list[Written]:
    with open(folder / "everything.jsonl", "wb") as file:
        return [write_rollouts(file, source, _rollouts_at(size, source)) for source in SOURCES]


MAKERS: dict[str, Callable[[Path, float], list[Written]]] = {
    "rollouts": partial(_over_sources, _rollouts_shard),
    "steps": partial(_over_sources, partial(_steps_shards, 1)),
    "steps_of_long_text": partial(_over_sources, partial(_steps_shards, 8)),
    "one_shard": _one_shard,
    "long_rollout": write_long_rollout,
    "long_lines": write_long_lines,
}
