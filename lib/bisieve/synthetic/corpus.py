"""Writes a corpus: pictures, benchmark, shards, and last ``corpus.json``, the sign that it is whole.

OUTPUT/images/<source>/000000.png …            pictures of the shards
OUTPUT/images/benchmark/<part>/000000.png …    pictures of the benchmark
OUTPUT/benchmark.jsonl
OUTPUT/annotations/<source>.jsonl, or annotations/<source>/<source>-00000.jsonl …
OUTPUT/corpus.json
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import msgspec

from bisieve.corpus.benchmark import benchmark_lines, make_benchmark
from bisieve.corpus.config import CorpusConfig
from bisieve.corpus.pictures import Pictures, encode_pictures
from bisieve.corpus.shards import plan_shards, write_rollout_shards, write_step_shards
from bisieve.corpus.sources import SCATTER, Source, generate, make_sources, random_stream
from bisieve.corpus.tally import Tally
from bisieve.errors import UsageError
from bisieve.storage import exists, join, open_output, read_bytes, write_bytes

WRITERS = 8  # threads that write pictures: an object store answers each in milliseconds
PICTURES_IN_FLIGHT = 1_000


@dataclass(frozen=True)
class Written:
    """What lies at the output now."""

    tallies: list[Tally]  # one a source
    made_now: bool  # False: it was there already, made from the same settings


def write_corpus(output: str, config: CorpusConfig) -> Written:
    """Makes the corpus that ``config`` describes at the URL ``output``.

    A corpus made from the same settings is left as it is.  Raises `UsageError` where anything else lies at
    ``output``, and `StorageError` where it cannot be written.
    """
    settings = msgspec.json.decode(msgspec.json.encode(asdict(config)))
    if (tallies := _finished(output, settings)) is not None:
        return Written(tallies, made_now=False)
    sources = make_sources(config)
    for source in sources:
        _write_pictures(output, source.pictures, source.task.name)
    _write_benchmark(output, config)
    tallies = [_write_shards(output, source, config) for source in sources]
    summary = {"settings": settings, "sources": [asdict(tally) for tally in tallies]}
    write_bytes(
        join(output, "corpus.json"), msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n"
    )
    return Written(tallies, made_now=True)


def _finished(output: str, settings: dict[str, Any]) -> list[Tally] | None:
    mark = join(output, "corpus.json")
    if exists(mark):
        try:
            summary = msgspec.json.decode(read_bytes(mark))
            if summary["settings"] == settings:
                return [Tally(**tally) for tally in summary["sources"]]
        except (msgspec.MsgspecError, KeyError, TypeError) as error:
            raise UsageError(
                f"what bisieve corpus has made at {mark}",
                "a file that is cut off or none of ours",
                "choose another --output, or delete this one",
            ) from error
        raise UsageError(
            f"an output without a corpus, or the same settings as in {mark}",
            "a corpus made from other settings",
            "choose another --output, or delete this one",
        )
    if exists(join(output, "annotations")):
        raise UsageError(
            f"an output without shards at {output}",
            "shards of an unfinished corpus in annotations/",
            "choose another --output, or delete this one",
        )
    return None


def _write_shards(output: str, source: Source, config: CorpusConfig) -> Tally:
    tally = Tally(source.task.name)
    rollouts = tally.watch(generate(source, config))
    shards = plan_shards(source.task.name, source.rollouts, config.shard_rollouts)
    if config.layout == "rollouts":
        write_rollout_shards(output, shards, rollouts)
    else:
        write_step_shards(output, shards, rollouts, random_stream(config, source.task, SCATTER))
    return tally


def _write_benchmark(output: str, config: CorpusConfig) -> None:
    if config.benchmark == 0:
        return
    with open_output(join(output, "benchmark.jsonl")) as file:
        for part in make_benchmark(config.benchmark, config.seed, config.solver.mend_rate):
            _write_pictures(output, part.pictures, part.folder)
            file.writelines(benchmark_lines(part))


def _write_pictures(output: str, pictures: Pictures, folder: str) -> None:
    with ThreadPoolExecutor(WRITERS) as pool:
        for batch in _batches(encode_pictures(pictures, folder), PICTURES_IN_FLIGHT):
            urls = [join(output, path) for path, _ in batch]
            list(pool.map(write_bytes, urls, [png for _, png in batch]))


def _batches(items: Iterator[tuple[str, bytes]], size: int) -> Iterator[list[tuple[str, bytes]]]:
    while batch := list(islice(items, size)):
        yield batch
