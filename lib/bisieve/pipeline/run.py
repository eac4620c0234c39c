"""The scoring job: shards in, a published index out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

import pyarrow as pa

from bisieve import schemas
from bisieve._text import pluralize
from bisieve._version import __version__
from bisieve.errors import CorpusError
from bisieve.events import EventSink, null_sink
from bisieve.index.manifest import (
    ROWS_VERSION,
    DataFile,
    Manifest,
    fingerprint,
    is_up_to_date,
    publish,
    version_folder,
)
from bisieve.index.reader import Index, missing_files
from bisieve.index.writer import cutoff_scores_over_all, write_file_list, write_part, write_source_list
from bisieve.io.conditional import read_pointer
from bisieve.io.file_names import SUFFIXES
from bisieve.io.storage import FileInfo, canonical, join, require_writable
from bisieve.pipeline.engine import BYTES_A_ROLLOUT, Engine, OpenEngine, Parts
from bisieve.pipeline.incremental import Older, known_layouts, older_rows
from bisieve.pipeline.progress import Scanned, reporter, scan_line
from bisieve.pipeline.ranked_files import write_ranked, write_rejects
from bisieve.pipeline.scan_tasks import SHARDS_A_TASK, Tasks, layouts_by_tasks, scan_corpus
from bisieve.records.model import HINTS, NO_SOURCE
from bisieve.records.options import Layout, Parameters, ReadOptions
from bisieve.scan.chunks import Chunk, Totals, add_up
from bisieve.schemas import MANIFEST
from bisieve.shards.layout import find_layouts, fitting_options, resolve_layouts
from bisieve.shards.listing import Listing, list_inputs, list_shards, merged_stems, plan_tasks

LEFT_OUT_NAMED = 100  # in the manifest
_NAMED = 5  # in a line of text
SOFTWARE = {"bisieve": __version__, "pyarrow": pa.__version__}  # what decides the bytes: no engine does

Layouts = Mapping[FileInfo, Layout]


@dataclass(frozen=True)
class ScoreRequest:
    """What to score, how, and where the index goes."""

    inputs: tuple[str, ...]  # URLs of shards, folders or globs
    index: str  # URL of the index
    alpha: float  # of the score, paper §4
    scope: str = "source"  # or global
    ties: str = "file"  # or hash, spread
    seed: int = 0  # of ties=hash and of random order
    reading: ReadOptions = field(default_factory=ReadOptions)  # how records are read
    threshold: float = 0.0  # a step is positive when its score exceeds it
    strategy: str = "bis"  # one of ranking.STRATEGIES
    strict: bool = False  # refuse inputs of which a file is left out


def score_corpus(
    open_engine: OpenEngine, request: ScoreRequest, emit: EventSink = null_sink
) -> tuple[Index, bool]:
    """Score, rank and publish; return the index and whether anything had to be done.

    Args:
        open_engine: Gets how many bytes there are to work on: new shards, and rollouts of an older index.
            It is asked only when there is something to do; of the other shards nothing is read.
        request: What to score, how, and where the index goes.
        tell: Gets the events of the run.

    Raises:
        CorpusError: There is nothing to rank, or a shard changed while it was read.
        StorageError: A store refuses.
    """
    index = canonical(request.index)
    inputs = sorted({canonical(url) for url in request.inputs})
    listing = list_inputs(inputs, index)
    shards = listing.shards
    _say_left_out(listing, request.strict, emit)
    _say_merged(shards, request.reading, emit)
    parameters = Parameters(
        alpha=request.alpha,
        scope=request.scope,
        ties=request.ties,
        seed=request.seed,
        reading=request.reading,
        threshold=request.threshold,
        strategy=request.strategy,
    )
    pointer = read_pointer(join(index, MANIFEST))
    data = pointer.data
    older = None if data is None else Index(index, Manifest.from_json(data, pointer.url))
    if older is None:
        require_writable(index)
    elif lost := missing_files(older):
        emit("damaged", f"{lost[0]} of the index is missing or cut off: all is scanned again", missing=lost)
        older = None
    if older is not None and is_up_to_date(older.manifest, parameters, shards):
        emit("unchanged", index=index, fingerprint=older.fingerprint)
        return older, False
    if older is not None and older.manifest.rows_version != ROWS_VERSION:
        emit("rules", "the index was scanned by the rules of an older bisieve: all shards are scanned again")
    known = {} if older is None else known_layouts(older, parameters)
    new = [shard for shard in shards if shard not in known]
    few = request.reading.layout != "auto" or len(new) <= SHARDS_A_TASK
    if few:
        layouts = resolve_layouts(shards, known | find_layouts(new, request.reading), request.reading)
        scan = _to_scan(layouts, known, emit)
    with open_engine(sum(shard.size for shard in new) + BYTES_A_ROLLOUT * _rollouts(older)) as engine:
        scanned = Scanned.on(engine)
        with engine.watched(reporter(emit, scanned)):
            if not few:
                found = layouts_by_tasks(engine, new, request.reading)
                layouts = resolve_layouts(shards, known | found, request.reading)
                scan = _to_scan(layouts, known, emit)
            kept = None if older is None else older_rows(older, layouts, layouts.keys() - scan.keys())
            chunks = _scanned(engine, scan, kept, parameters, scanned)
            if not chunks:
                raise _no_rollouts("no record at all")
            manifest = _build(engine, engine.union(chunks), index, inputs, layouts, parameters, scanned, emit)
        manifest = replace(
            manifest, left_out=listing.left_out[:LEFT_OUT_NAMED], files_left_out=len(listing.left_out)
        )
    publish(pointer, index, manifest, emit)
    return Index(index, manifest), True


def _rollouts(index: Index | None) -> int:
    return 0 if index is None else index.manifest.rollouts


def _say_left_out(listing: Listing, strict: bool, emit: EventSink) -> None:
    """Name the files that may hold data and are not read; `CorpusError` for any where ``strict``."""
    names = listing.left_out
    if not names:
        return
    shown = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    found = f"{pluralize(len(names), 'file')} of another kind: {shown}"
    if strict:
        raise CorpusError(
            f"shards alone ({', '.join('*' + suffix for suffix in SUFFIXES)}) with --strict",
            found, "rename or convert them, move them away, or name the shards by a glob",
        )  # fmt: skip
    emit("left_out", f"left out {found}", files=len(names), names=names[:LEFT_OUT_NAMED])


def _say_merged(shards: Sequence[FileInfo], reading: ReadOptions, emit: EventSink) -> None:
    """Warn of sources that are one only because shards of several folders have one name."""
    if reading.source_from == "folder" or reading.source_field is not None:
        return
    if stems := merged_stems(shards):
        more = f" and {pluralize(len(stems) - 1, 'other')}" if len(stems) > 1 else ""
        emit(
            "merged",
            f"shards named {stems[0]}{more} are in several folders and make one source; "
            "--source-from folder or --source-field NAME tells them apart",
            stems=stems[:LEFT_OUT_NAMED],
        )


def _to_scan(layouts: Layouts, known: Layouts, emit: EventSink) -> Layouts:
    """Those of the shards that an older index does not have as they are, read as they would be read now."""
    scan = {shard: layout for shard, layout in layouts.items() if known.get(shard) != layout}
    emit(
        "listed", f"{len(scan)} of {len(layouts)} shards to scan",
        shards=len(layouts), to_scan=len(scan), bytes_to_scan=sum(shard.size for shard in scan),
    )  # fmt: skip
    return scan


def _scanned(
    engine: Engine, layouts: Layouts, older: Older | None, parameters: Parameters, scanned: Scanned
) -> list[Parts[Chunk]]:
    """What a scan of shards finds, and what an older index knows; nothing where there is nothing in them."""
    tasks: dict[Layout, Tasks] = {}
    for layout in sorted(set(layouts.values())):
        mine = [shard for shard, its in layouts.items() if its == layout]
        tasks[layout] = plan_tasks(mine, engine.cores)
    return scan_corpus(engine, tasks, parameters, scanned, older)


def _build(
    engine: Engine, chunks: Parts[Chunk], index: str, inputs: list[str], layouts: Layouts,
    parameters: Parameters, scanned: Scanned, emit: EventSink,
) -> Manifest:  # fmt: skip
    """Writes all files of a new version, which nobody sees before the manifest names them."""
    shards = list(layouts)
    version = fingerprint(parameters, shards)
    folder = version_folder(version)
    chunks, summaries = chunks.keep("scan", attrgetter("summary"))
    totals = add_up(summary.totals for summary in summaries)
    numbers = scanned.numbers()
    kept = scanned.kept.value
    said = [f"scanned {scan_line(numbers)}"] * bool(numbers["bytes"])
    said += [f"took {pluralize(kept, 'rollout')} from the index"] * bool(kept)
    emit("scanned", "; ".join(said), **numbers, kept=kept)
    emit("rejected", rejected=totals.num_rejected, reasons=totals.rejected_by_reason)
    _require_rollouts(totals, parameters.reading)
    files = write_ranked(
        engine, chunks.map(attrgetter("usable")), [summary.usable_sample for summary in summaries],
        parameters, totals.rollouts, index, f"{folder}/rollouts",
    )  # fmt: skip
    rejected = chunks.map(attrgetter("rejects"))
    rejects = write_rejects(engine, rejected, summaries, index, f"{folder}/rejects")
    rollouts = [file.file for file in files]
    emit("ranked", rollouts=totals.num_rollouts, strategy=parameters.strategy)
    check_unchanged(inputs, shards, index)
    return Manifest(
        fingerprint=version,
        parameters=parameters,
        inputs=inputs,
        rollouts=totals.num_rollouts,
        rejected=totals.rejected_by_reason,
        examples=totals.examples,
        shard_bytes=sum(shard.size for shard in shards),
        file_bytes=sum(file.bytes for file in (*rollouts, *rejects)),
        shards=_write_shards(index, folder, layouts, totals),
        sources=write_source_list(index, folder, totals, files),
        files=write_file_list(index, folder, rollouts, rejects),
        software=SOFTWARE,
        cutoff_scores=cutoff_scores_over_all(files),
        rows_version=ROWS_VERSION,
    )


def _require_rollouts(totals: Totals, reading: ReadOptions) -> None:
    if totals.sources:
        return
    counts = totals.rejected_by_reason
    examples = totals.examples
    found = ", ".join(f"{count} {reason} (first: {examples[reason]})" for reason, count in counts.items())
    hint = "check --source-field" if set(counts) == {NO_SOURCE} else "check --input and --layout"
    hint = "; ".join(HINTS[reason] for reason in counts if reason in HINTS) or hint
    shards = dict.fromkeys(shard for shard, _ in totals.first.values())
    fitting = (fitting_options(shard, reading) for shard in shards)
    raise _no_rollouts(
        found or "no record at all", next((fits for fits in fitting if "--field" in fits), hint)
    )


def _no_rollouts(found: str, hint: str = "check --input and --layout") -> CorpusError:
    return CorpusError("at least one usable rollout", found, hint)


def check_unchanged(inputs: Sequence[str], shards: Sequence[FileInfo], index: str | None = None) -> None:
    """`CorpusError` when a shard is not what it was; shards that came since are the next run's."""
    now = set(list_shards(inputs, index))
    changed = [shard.url for shard in shards if shard not in now]
    if changed:
        raise CorpusError(
            "shards that stay as they are while they are read",
            f"{len(changed)} changed, such as {changed[0]}",
            "score again when they are complete; the index is as it was",
        )


def _write_shards(index: str, folder: str, layouts: Layouts, totals: Totals) -> DataFile:
    shards = list(layouts)
    yields = [totals.shards.get(shard.url, (0, 0)) for shard in shards]
    table = pa.table(
        {
            "url": [shard.url for shard in shards],
            "size": [shard.size for shard in shards],
            "etag": [shard.etag for shard in shards],
            "layout": list(layouts.values()),
            "rollouts": [usable for usable, _ in yields],
            "rejected": [rejected for _, rejected in yields],
        }
    )
    return write_part(index, f"{folder}/shards.parquet", table, schemas.SHARDS)
