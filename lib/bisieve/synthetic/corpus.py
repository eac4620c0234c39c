"""Write a corpus: pictures, benchmark, shards, and last corpus.json, which marks it as complete.

OUTPUT/images/<source>/000000.png …            pictures of the shards
OUTPUT/images/benchmark/<part>/000000.png …    pictures of the benchmark
OUTPUT/images/candidates/<task>/000000.png …   pictures of the candidates
OUTPUT/benchmark.jsonl
OUTPUT/candidates.jsonl                        if there are any
OUTPUT/annotations/<source>.jsonl, or annotations/<source>/<source>-00000.jsonl …
OUTPUT/corpus.json
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, TypeVar

import msgspec

from bisieve._text import Report, Table, pluralize
from bisieve.errors import UsageError
from bisieve.events import PROGRESS, EventSink, null_sink
from bisieve.io.storage import exists, open_output, read_bytes, write_bytes
from bisieve.io.urls import join
from bisieve.synthetic.corpus_config import CorpusConfig
from bisieve.synthetic.corpus_sources import SCATTER, Source, generate, make_sources, random_stream
from bisieve.synthetic.held_out import benchmark_lines, candidate_lines, make_benchmark, make_candidates
from bisieve.synthetic.pictures import Pictures, encode_pictures
from bisieve.synthetic.shard_files import (
    AnnotatedRollout,
    plan_shards,
    write_rollout_shards,
    write_step_shards,
)

WRITERS = 8  # threads that write pictures: an object store takes milliseconds for each
PICTURES_IN_FLIGHT = 1_000  # encoded pictures in memory
COUNTED = 500  # pictures or rollouts between two events of progress

Item = TypeVar("Item")

# Defaults of settings that the record of an older corpus does not have.
_ADDED_LATER = {
    name: getattr(CorpusConfig, name) for name in ("candidates", "responses", "early_stop", "any_order")
}


@dataclass
class Tally:
    """The numbers of one source, or of all sources."""

    source: str
    rollouts: int = 0
    steps: int = 0
    all_positive: int = 0  # rollouts in which every step has an MC score above 0
    all_negative: int = 0  # rollouts in which no step has
    successes: int = 0  # right continuations of all steps
    continuations: int = 0  # all continuations of all steps

    def watch(self, rollouts: Iterable[AnnotatedRollout]) -> Iterator[AnnotatedRollout]:
        """Yield ``rollouts`` unchanged and count them."""
        for rollout in rollouts:
            self.rollouts += 1
            self.steps += len(rollout.steps)
            self.all_positive += all(rollout.mc_correct)
            self.all_negative += not any(rollout.mc_correct)
            self.successes += sum(rollout.mc_correct)
            self.continuations += sum(rollout.mc_total)
            yield rollout

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.source,
            self.rollouts + other.rollouts,
            self.steps + other.steps,
            self.all_positive + other.all_positive,
            self.all_negative + other.all_negative,
            self.successes + other.successes,
            self.continuations + other.continuations,
        )


def table(tallies: list[Tally]) -> Report:
    """Return a table with a line per source and one for all.

    Its columns are counts, the shares of mixed, all-positive and all-negative rollouts, and the mean MC score
    of the steps.
    """
    titles = ("source", "rollouts", "steps", "mixed", "all-positive", "all-negative", "mean MC")
    return Report(Table(titles, [_row(tally) for tally in [*tallies, sum(tallies, Tally("all"))]]))


def _row(tally: Tally) -> tuple[str, ...]:
    mixed = tally.rollouts - tally.all_positive - tally.all_negative
    return (
        tally.source,
        f"{tally.rollouts:,}",
        f"{tally.steps:,}",
        f"{mixed / tally.rollouts:.1%}",
        f"{tally.all_positive / tally.rollouts:.1%}",
        f"{tally.all_negative / tally.rollouts:.1%}",
        f"{tally.successes / tally.continuations:.3f}",
    )


@dataclass(frozen=True)
class Written:
    """The corpus at the output."""

    tallies: list[Tally]  # one per source
    made_now: bool  # False: a corpus with the same settings was there already


def write_corpus(output: str, config: CorpusConfig, emit: EventSink = null_sink) -> Written:
    """Generate the corpus that ``config`` describes and write it.

    Args:
        output: URL of a folder. If it has a complete corpus with the same settings, nothing is written.
        config: What to generate.
        emit: Gets the event ``making``, and how many pictures and rollouts of each source are made.

    Raises:
        UsageError: ``output`` has a corpus with other settings, an unreadable corpus.json, or shards without
            one (an unfinished corpus).
        StorageError: ``output`` cannot be read or written.
    """
    settings = msgspec.json.decode(msgspec.json.encode(asdict(config)))
    if (tallies := _finished(output, settings)) is not None:
        return Written(tallies, made_now=False)
    sources = make_sources(config)
    emit("making", f"making {pluralize(config.rollouts, 'rollout')}", rollouts=config.rollouts)
    for source in sources:
        _write_pictures(output, source.pictures, source.task.name, emit)
    _write_benchmark(output, config)
    _write_candidates(output, config)
    tallies = [_write_shards(output, source, config, emit) for source in sources]
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
            if {**_ADDED_LATER, **summary["settings"]} == settings:
                return [Tally(**tally) for tally in summary["sources"]]
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise UsageError(
                f"the record of bisieve corpus at {mark}",
                "a truncated file, or one not written by bisieve corpus",
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


def _write_shards(output: str, source: Source, config: CorpusConfig, emit: EventSink) -> Tally:
    tally = Tally(source.task.name)
    made = _counted(generate(source, config), f"rollouts of {source.task.name}", source.rollouts, emit)
    rollouts = tally.watch(made)
    shards = plan_shards(source.task.name, source.rollouts, config.shard_rollouts)
    if config.layout == "rollouts":
        write_rollout_shards(output, shards, rollouts)
    else:
        write_step_shards(output, shards, rollouts, random_stream(config, source.task, SCATTER))
    return tally


def _counted(items: Iterable[Item], what: str, total: int, emit: EventSink) -> Iterator[Item]:
    """Yield ``items``, and emit how many of ``total`` there were, after each `COUNTED` of them."""
    for number, item in enumerate(items, 1):
        if number % COUNTED == 0:
            text = f"{what}: {number:,} of {total:,}"
            emit(PROGRESS, text, stage=what, tasks_done=number, tasks=total)
        yield item


def _write_benchmark(output: str, config: CorpusConfig) -> None:
    if config.benchmark == 0:
        return
    with open_output(join(output, "benchmark.jsonl")) as file:
        for part in make_benchmark(
            config.benchmark, config.seed, config.solver.correction_rate, config.any_order
        ):
            _write_pictures(output, part.pictures, part.folder)
            file.writelines(benchmark_lines(part))


def _write_candidates(output: str, config: CorpusConfig) -> None:
    if config.candidates == 0:
        return
    with open_output(join(output, "candidates.jsonl")) as file:
        for part in make_candidates(
            config.candidates,
            config.responses,
            config.seed,
            config.solver.correction_rate,
            config.any_order,
        ):
            _write_pictures(output, part.pictures, part.folder)
            file.writelines(candidate_lines(part))


def _write_pictures(output: str, pictures: Pictures, folder: str, emit: EventSink = null_sink) -> None:
    encoded = _counted(encode_pictures(pictures, folder), f"images of {folder}", len(pictures), emit)
    with ThreadPoolExecutor(WRITERS) as pool:
        for batch in _batches(encoded, PICTURES_IN_FLIGHT):
            urls = [join(output, path) for path, _ in batch]
            list(pool.map(write_bytes, urls, [png for _, png in batch]))


def _batches(items: Iterator[tuple[str, bytes]], size: int) -> Iterator[list[tuple[str, bytes]]]:
    while batch := list(islice(items, size)):
        yield batch
