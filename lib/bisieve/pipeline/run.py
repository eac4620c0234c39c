"""The scoring job: `score_corpus` lists shards, scans, ranks and publishes an index.

list_inputs ──▶ resolve_layouts ──▶ scan_corpus (new shards) + kept rows (older index) ──▶ chunks
chunks ──▶ write_ranked, write_rejects, lists of shards, sources and files ──▶ manifest ──▶ publish
"""

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
    say_occupied,
    version_folder,
)
from bisieve.index.reader import Index, missing_files
from bisieve.index.writer import cutoff_scores_over_all, write_file_list, write_part, write_source_list
from bisieve.io.conditional import read_pointer
from bisieve.io.storage import FileInfo, require_writable
from bisieve.io.urls import SUFFIXES, canonical, join
from bisieve.pipeline.engine import BYTES_A_ROLLOUT, Engine, OpenEngine, Parts, Scanned, reporter, scan_line
from bisieve.pipeline.incremental import Older, known_layouts, older_rows
from bisieve.pipeline.ranked_files import write_ranked, write_rejects
from bisieve.pipeline.scan_tasks import SHARDS_A_TASK, Tasks, layouts_by_tasks, scan_corpus
from bisieve.ranking.strategies import check_options
from bisieve.records.model import HINTS, NO_SOURCE
from bisieve.records.options import Layout, Parameters, ReadOptions
from bisieve.scan.chunks import Chunk, Totals, add_up
from bisieve.schemas import MANIFEST
from bisieve.shards.layout import find_layouts, fitting_options, resolve_layouts
from bisieve.shards.listing import Listing, list_inputs, list_shards, merged_stems, plan_tasks

LEFT_OUT_NAMED = 100  # most names of skipped files in the manifest and in an event
_NAMED = 5  # most names of them in a line of text
# What the bytes of an index depend on; not on the engine, so no version of Spark is here.
SOFTWARE = {"bisieve": __version__, "pyarrow": pa.__version__}

Layouts = Mapping[FileInfo, Layout]


@dataclass(frozen=True)
class ScoreRequest:
    """Arguments of `score_corpus`: the inputs, the parameters and the URL of the index."""

    inputs: tuple[str, ...]  # URLs of shards, folders or globs
    index: str  # URL of the index
    alpha: float  # parameter of the score, paper §4
    scope: str = "source"  # or global
    ties: str = "file"  # or hash, spread
    seed: int = 0  # for ties=hash and for strategies in random order
    reading: ReadOptions = field(default_factory=ReadOptions)  # how records are read
    threshold: float = 0.0  # a step is positive when its score exceeds it
    strategy: str = "bis"  # one of `strategies.strategy_names`
    all_negative: str = "keep"  # or last, drop: rollouts without a positive step
    pair_share: float = 1.0  # for the strategy paired
    strict: bool = False  # raise if a file at the inputs that may hold data would be skipped


def score_corpus(
    open_engine: OpenEngine, request: ScoreRequest, emit: EventSink = null_sink
) -> tuple[Index, bool]:
    """Score the shards at the inputs, rank the rollouts and publish the index.

    If there is an index already, only new and changed shards are scanned; rollouts of the other shards are
    taken from it.  Files are written under a new version folder; the manifest is replaced last.

    Args:
        open_engine: Called only if the index is not up to date, with the estimated bytes to process: those of
            shards to scan and of rollouts in the index.
        request: What to score and how, and the URL of the index.
        emit: Gets the events of the run.

    Returns:
        The published version, and False if it was up to date already.

    Raises:
        UsageError: An option has no effect with the strategy.
        CorpusError: The inputs hold no shards or no usable rollout, a shard is damaged or changed during the
            run, or with ``strict`` a file would be skipped.
        IndexUnusableError: The URL of the index has an unreadable manifest or one of another format version.
        StorageError: A store cannot be read or written, or another run published meanwhile.
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
        all_negative=request.all_negative,
        pair_share=request.pair_share,
    )
    check_options(parameters)
    pointer = read_pointer(join(index, MANIFEST))
    data = pointer.data
    older = None if data is None else Index(index, Manifest.from_json(data, pointer.url))
    if older is None:
        require_writable(index)
        say_occupied(index, emit)
    elif lost := missing_files(older):
        emit(
            "damaged",
            f"{lost[0]} of the index is missing or truncated; all shards are scanned again",
            missing=lost,
        )
        older = None
    if older is not None and is_up_to_date(older.manifest, parameters, shards):
        emit("unchanged", index=index, fingerprint=older.fingerprint)
        return older, False
    if older is not None and older.manifest.rows_version != ROWS_VERSION:
        emit("rules", "an older bisieve scanned the index by other rules; all shards are scanned again")
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
    """Emit the names of skipped files that may hold data; if ``strict``, raise `CorpusError` instead."""
    names = listing.left_out
    if not names:
        return
    shown = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    found = f"{pluralize(len(names), 'file')} of an unsupported kind: {shown}"
    if strict:
        raise CorpusError(
            f"shards alone ({', '.join('*' + suffix for suffix in SUFFIXES)}) with --strict",
            found, "rename or convert them, move them away, or name the shards by a glob",
        )  # fmt: skip
    emit("left_out", f"skipped {found}", files=len(names), names=names[:LEFT_OUT_NAMED])


def _say_merged(shards: Sequence[FileInfo], reading: ReadOptions, emit: EventSink) -> None:
    """Emit a warning if shards in different folders have the same file stem and so form one source."""
    if reading.source_from == "folder" or reading.source_field is not None:
        return
    if stems := merged_stems(shards):
        more = f" and {pluralize(len(stems) - 1, 'other')}" if len(stems) > 1 else ""
        emit(
            "merged",
            f"shards named {stems[0]}{more} are in several folders and make one source; "
            "use --source-from folder or --source-field NAME to keep them separate",
            stems=stems[:LEFT_OUT_NAMED],
        )


def _to_scan(layouts: Layouts, known: Layouts, emit: EventSink) -> Layouts:
    """Return the shards to scan, and emit their number: those not ``known``, or known with another layout."""
    scan = {shard: layout for shard, layout in layouts.items() if known.get(shard) != layout}
    emit(
        "listed", f"{len(scan):,} of {len(layouts):,} shards to scan",
        shards=len(layouts), to_scan=len(scan), bytes_to_scan=sum(shard.size for shard in scan),
    )  # fmt: skip
    return scan


def _scanned(
    engine: Engine, layouts: Layouts, older: Older | None, parameters: Parameters, scanned: Scanned
) -> list[Parts[Chunk]]:
    """Return the chunks of scanned shards and of the older index; [] if all shards are empty text files."""
    tasks: dict[Layout, Tasks] = {}
    for layout in sorted(set(layouts.values())):
        mine = [shard for shard, its in layouts.items() if its == layout]
        tasks[layout] = plan_tasks(mine, engine.cores)
    return scan_corpus(engine, tasks, parameters, scanned, older)


def _build(
    engine: Engine, chunks: Parts[Chunk], index: str, inputs: list[str], layouts: Layouts,
    parameters: Parameters, scanned: Scanned, emit: EventSink,
) -> Manifest:  # fmt: skip
    """Write all files of a new version and return its manifest; readers see none of it until `publish`."""
    shards = list(layouts)
    version = fingerprint(parameters, shards)
    folder = version_folder(version)
    chunks, summaries = chunks.keep("scan", attrgetter("summary"))
    totals = add_up(summary.totals for summary in summaries)
    numbers = scanned.numbers()
    kept = scanned.kept.value
    said = [f"scanned {scan_line(numbers)}"] * bool(numbers["bytes"])
    said += [f"reused {pluralize(kept, 'rollout')} of the current index"] * bool(kept)
    emit("scanned", "; ".join(said), **numbers, kept=kept)
    emit("rejected", rejected=totals.num_rejected, reasons=totals.rejected_by_reason)
    _require_rollouts(totals, parameters.reading)
    files = write_ranked(
        engine, chunks.map(attrgetter("usable")), [summary.usable_sample for summary in summaries],
        parameters, totals, index, f"{folder}/rollouts",
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
    """Raise `CorpusError` if a shard was changed or removed since it was listed; ignore new shards."""
    now = set(list_shards(inputs, index))
    changed = [shard.url for shard in shards if shard not in now]
    if changed:
        raise CorpusError(
            "shards that do not change during the run",
            f"{len(changed):,} changed, such as {changed[0]}",
            "run again when they are complete; the index is unchanged",
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
