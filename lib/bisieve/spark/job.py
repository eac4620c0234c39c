"""The scoring job: shards in, a published index out."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pyarrow as pa
import pyspark
from pyspark import RDD, SparkContext, StorageLevel

from bisieve import __version__, schema
from bisieve.errors import CorpusError
from bisieve.events import Tell, silent
from bisieve.index import Index
from bisieve.manifest import (
    MANIFEST,
    DataFile,
    Manifest,
    Parameters,
    fingerprint,
    publish,
    version_folder,
)
from bisieve.parts import write_part
from bisieve.pointer import read_pointer
from bisieve.ranked import all_cut_scores
from bisieve.ranking import largest_tie_blocks
from bisieve.records import Layout
from bisieve.scan.chunks import Chunk
from bisieve.shards import detect_layout, list_shards, packed, split_shards
from bisieve.spark.kept import kept_chunks, unchanged_shards
from bisieve.spark.progress import Scanned, scan_line, watched
from bisieve.spark.scan import scan_corpus
from bisieve.spark.session import unwrapped_errors
from bisieve.spark.stages import name_jobs
from bisieve.spark.write import write_ranked, write_rejects
from bisieve.storage import FileInfo, canonical, join
from bisieve.totals import Totals, add_up

SOFTWARE = {"bisieve": __version__, "pyarrow": pa.__version__, "pyspark": pyspark.__version__}
SMALLEST_TASK, LARGEST_TASK = 8 * 2**20, 128 * 2**20  # bytes


@dataclass(frozen=True)
class ScoreRequest:
    """What to score, how, and where the index goes."""

    inputs: tuple[str, ...]  # URLs of shards, folders or globs
    index: str  # URL of the index
    alpha: float  # of the score, paper §4
    scope: str = "source"  # or global
    ties: str = "file"  # or hash, spread
    seed: int = 0  # of ties=hash and of random order
    layout: Layout | None = None  # None: told from the first records
    source_field: str | None = None  # None: the shard's file stem
    threshold: float = 0.0  # a step is positive when its score exceeds it
    strategy: str = "bis"  # one of ranking.STRATEGIES


def score_corpus(
    spark_context: Callable[[], AbstractContextManager[SparkContext]],
    request: ScoreRequest,
    tell: Tell = silent,
) -> tuple[Manifest, bool]:
    """Scores, ranks and publishes; returns the manifest and whether anything had to be done.

    A Spark context is made only when there is something to do, and of shards that the index knows as they
    are nothing is read.  `CorpusError` where there is nothing to rank, or where a shard changed while it was
    read; `StorageError` where a store refuses.
    """
    index = canonical(request.index)
    inputs = sorted({canonical(url) for url in request.inputs})
    shards = list_shards(inputs)
    parameters = Parameters(
        alpha=request.alpha,
        scope=request.scope,
        ties=request.ties,
        seed=request.seed,
        layout=request.layout or detect_layout(shards),
        source_field=request.source_field,
        threshold=request.threshold,
        strategy=request.strategy,
    )
    pointer = read_pointer(join(index, MANIFEST))
    current = None if pointer.data is None else Manifest.from_json(pointer.data, pointer.url)
    if current is not None and current.fingerprint == fingerprint(parameters, shards):
        tell("unchanged", index=index, fingerprint=current.fingerprint)
        return current, False
    kept = [] if current is None else unchanged_shards(Index(index, current), shards, parameters)
    scan = [shard for shard in shards if shard not in set(kept)]
    tell(
        "listed", f"{len(scan)} of {len(shards)} shards to scan",
        shards=len(shards), to_scan=len(scan), bytes_to_scan=sum(shard.size for shard in scan),
    )  # fmt: skip
    with unwrapped_errors(), spark_context() as context, watched(context, tell) as scanned:
        chunks = _chunks(context, scan, parameters, scanned)
        if current is not None and kept:
            known = kept_chunks(context, Index(index, current), kept, parameters)
            chunks = known if chunks is None else chunks.union(known)
        if chunks is None:
            raise _no_rollouts("no record at all")
        manifest = _build(chunks, index, inputs, shards, parameters, scanned, tell)
    publish(pointer, index, manifest, tell)
    return manifest, True


def _chunks(
    context: SparkContext, shards: list[FileInfo], parameters: Parameters, scanned: Scanned
) -> "RDD[Chunk] | None":
    """What a scan of ``shards`` finds; None where there is nothing in them."""
    task_bytes = _task_bytes(sum(shard.size for shard in shards), context.defaultParallelism)
    tasks = packed(split_shards(shards, task_bytes), task_bytes)
    if not tasks:
        return None
    return scan_corpus(context, tasks, parameters, scanned.count_splits).map(scanned.count_records)


def _build(
    chunks: "RDD[Chunk]", index: str, inputs: list[str], shards: list[FileInfo], parameters: Parameters,
    scanned: Scanned, tell: Tell,
) -> Manifest:  # fmt: skip
    """Writes all files of a new version, which nobody sees before the manifest names them."""
    version = fingerprint(parameters, shards)
    folder = version_folder(version)
    chunks.persist(StorageLevel.MEMORY_AND_DISK)
    name_jobs(chunks.context, "scan")
    summaries = chunks.map(lambda chunk: (chunk.totals, chunk.usable_sample, chunk.rejects_sample)).collect()
    totals = add_up(summary for summary, _, _ in summaries)
    numbers = scanned.numbers()
    tell("scanned", f"scanned {scan_line(numbers)}" if numbers["bytes"] else "", **numbers)
    tell("rejected", rejected=totals.num_rejected, reasons=totals.rejected_by_reason)
    _require_rollouts(totals)
    files = write_ranked(
        chunks.map(lambda chunk: chunk.usable), [sample for _, sample, _ in summaries],
        parameters, totals.rollouts, index, f"{folder}/rollouts",
    )  # fmt: skip
    rejects = write_rejects(
        chunks.map(lambda chunk: chunk.rejects), [sample for _, _, sample in summaries],
        index, f"{folder}/rejects",
    )  # fmt: skip
    tell("ranked", rollouts=sum(totals.rollouts.values()), strategy=parameters.strategy)
    check_unchanged(inputs, shards)
    return Manifest(
        fingerprint=version,
        parameters=parameters,
        inputs=inputs,
        shards=_write_shards(index, folder, shards, totals),
        num_shards=len(shards),
        shard_bytes=sum(shard.size for shard in shards),
        sources=totals.by_source(largest_tie_blocks([file.tie_blocks for file in files])),
        files=[file.file for file in files],
        rejects=rejects,
        examples=totals.examples,
        software=SOFTWARE,
        cut_scores=all_cut_scores(files),
    )


def _task_bytes(corpus_bytes: int, cores: int) -> int:
    """Big enough that starting a task does not count, small enough that all cores end at about one time."""
    return min(max(corpus_bytes // (8 * cores), SMALLEST_TASK), LARGEST_TASK)


def _require_rollouts(totals: Totals) -> None:
    if totals.sources:
        return
    counts = totals.rejected_by_reason
    examples = totals.examples
    found = ", ".join(f"{count} {reason} (first: {examples[reason]})" for reason, count in counts.items())
    raise _no_rollouts(found or "no record at all")


def _no_rollouts(found: str) -> CorpusError:
    return CorpusError("at least one usable rollout", found, "check --input and --layout")


def check_unchanged(inputs: Sequence[str], shards: Sequence[FileInfo]) -> None:
    """`CorpusError` when a shard is not what it was; shards that came since are the next run's."""
    now = set(list_shards(inputs))
    changed = [shard.url for shard in shards if shard not in now]
    if changed:
        raise CorpusError(
            "shards that stay as they are while they are read",
            f"{len(changed)} changed, such as {changed[0]}",
            "score again when they are complete; the index is as it was",
        )


def _write_shards(index: str, folder: str, shards: Sequence[FileInfo], totals: Totals) -> DataFile:
    yields = [totals.shards.get(shard.url, (0, 0)) for shard in shards]
    table = pa.table(
        {
            "url": [shard.url for shard in shards],
            "size": [shard.size for shard in shards],
            "etag": [shard.etag for shard in shards],
            "rollouts": [usable for usable, _ in yields],
            "rejected": [rejected for _, rejected in yields],
        }
    )
    return write_part(index, f"{folder}/shards.parquet", table, schema.SHARDS)
