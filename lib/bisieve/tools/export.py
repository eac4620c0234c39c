"""Export a selection with its text: the paper's training file, or a corpus of plain JSONL records.

selection.rows ─ in_file_order ─┬─ fetch_in_chunks ─▶ export_mprm_jsonl ─▶ one JSONL file
                                └─ plain_lines ─────▶ export_records ────▶ one JSONL file per source

Order and bytes of the training file are those of the paper's published selection script.
"""

import json
import re
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from bisieve.errors import StorageError, UsageError
from bisieve.events import ignored
from bisieve.index.reader import Index, indexed_shards
from bisieve.index.selection import Selection
from bisieve.io.storage import open_output
from bisieve.io.urls import join, real_path
from bisieve.records.embedded_images import Save
from bisieve.records.model import Rollout
from bisieve.records.options import KnownShards
from bisieve.records.prompt import process_text
from bisieve.shards.fetch import fetch_in_chunks, in_chunks
from bisieve.tools.image_folder import refuse
from bisieve.tools.plain_records import plain_lines

_ASCII = 127  # the last code point of ASCII
_KEPT = " !$&'()+,;=@^{}~`%"  # beside letters, digits and "_.-~": safe in a file name on every store
_ENCODED = re.compile("%(?=[0-9A-Fa-f]{2})")


def export_mprm_jsonl(
    selection: Selection, output: str, threshold: float = 0.0, save: Save = refuse,
    wrote: Callable[[int], None] = ignored,
) -> int:  # fmt: skip
    """Write the selection as the paper's training file (paper App. C), one line per rollout.

    Sources are in the order of their first shard, the rollouts of each in file order. The file becomes
    visible at ``output`` when it is complete.

    Args:
        selection: The rollouts to write.
        output: URL of the file.
        threshold: The label of a step is 1.0 if its MC score is greater, else 0.0.
        save: Writes the images that are embedded in records to files and returns their names. The default
            refuses them.
        wrote: Called with the number of rollouts of each part that is written.

    Returns:
        The number of lines.

    Raises:
        UsageError: A record has an embedded image and ``save`` is the default.
        ImageError: An embedded image cannot be decoded, or its file exists with other bytes.
        IndexUnusableError: A span does not hold the indexed rollout any more.
        StorageError: A shard cannot be read, or ``output`` cannot be written.
    """
    rows = in_file_order(selection.rows)
    with open_output(output) as file:
        for rollouts in fetch_in_chunks(rows, selection.shards, save):
            file.writelines(_lines(rollouts, threshold))
            wrote(len(rollouts))
    return int(rows.num_rows)


def export_records(
    selection: Selection, output: str, save: Save = refuse, wrote: Callable[[int], None] = ignored
) -> int:
    """Write the selection's records as uncompressed JSONL shards, one file per source.

    The folder is a corpus: it can be scored, and its shards can be read by byte ranges even where the
    original shards (gzip, zstd) could not. If the selection has records of both layouts, each layout gets a
    subfolder named after it, because all records of a shard have the same layout.

    Args:
        selection: The rollouts to write.
        output: URL of the folder. Files are named `file_name` (source) + ``.jsonl``.
        save: Writes the images that are embedded in records to files and returns their names. The default
            refuses them.
        wrote: Called with the number of rollouts of each part that is written.

    Returns:
        The number of rollouts.

    Raises:
        UsageError: A record has an embedded image and ``save`` is the default.
        ImageError: An embedded image cannot be decoded, or its file exists with other bytes.
        IndexUnusableError: A span does not hold the indexed record any more.
        StorageError: A shard cannot be read, or ``output`` cannot be written.
    """
    rows = in_file_order(selection.rows)
    first = pc.struct_field(pc.list_element(rows["spans"].combine_chunks(), 0), "shard")
    layout = pa.array([selection.shards.layouts[shard] for shard in first.to_pylist()], pa.string())
    layouts = pc.unique(layout).to_pylist()
    for name in layouts:
        folder = output if len(layouts) == 1 else join(output, name)
        _export_sources(rows.filter(pc.equal(layout, name)), selection.shards, folder, save, wrote)
    return int(rows.num_rows)


def _export_sources(
    rows: pa.Table, shards: KnownShards, folder: str, save: Save, wrote: Callable[[int], None]
) -> None:
    for source in pc.unique(rows["source"]).to_pylist():
        with open_output(join(folder, f"{file_name(source)}.jsonl")) as file:
            for chunk in in_chunks(rows.filter(pc.equal(rows["source"], source))):
                file.writelines(line + b"\n" for line in plain_lines(chunk, shards, save))
                wrote(chunk.num_rows)


def file_name(source: str) -> str:
    """Return ``source`` as a file name (without suffix) that is valid and visible on every store.

    These are percent-encoded: characters that are not printable or not safe on every store, such as ``/``; a
    leading ``.`` or ``_``, which would hide the file from listings; and a ``%`` before two hex digits, so
    that different sources have different names.
    """
    source = _ENCODED.sub("%25", source)
    name = "".join(c if ord(c) > _ASCII and c.isprintable() else quote(c, safe=_KEPT) for c in source)
    return name if name[:1] not in (".", "_") else f"%{ord(name[0]):02X}{name[1:]}"


def changed_names(selection: Selection) -> list[str]:
    """Return the sources of the selection, sorted, whose `file_name` differs from the source's name."""
    sources = sorted(pc.unique(selection.rows["source"]).to_pylist())
    return [source for source in sources if file_name(source) != source]


def in_file_order(rows: pa.Table) -> pa.Table:
    """Return rows of an index sorted by (first shard of their source, source, shard, offset)."""
    first = pc.list_element(rows["spans"].combine_chunks(), 0)
    placed = rows.append_column("_shard", first.field("shard")).append_column(
        "_offset", first.field("offset")
    )
    sources = placed.group_by("source", use_threads=False).aggregate([("_shard", "min")])
    begins = sources["_shard_min"].take(pc.index_in(placed["source"], sources["source"].combine_chunks()))
    keys = ("_begins", "source", "_shard", "_offset")
    ordered = placed.append_column("_begins", begins).sort_by([(key, "ascending") for key in keys])
    return ordered.select(rows.column_names)


def _lines(rollouts: list[Rollout], threshold: float) -> Iterator[bytes]:
    for rollout in rollouts:
        text = process_text(rollout.question, rollout.steps)
        labels = [1.0 if score > threshold else 0.0 for score in rollout.scores]
        conversations = [{"from": "human", "value": text}, {"from": "gpt", "value": labels}]
        line = {"image": rollout.image, "conversations": conversations}
        yield json.dumps(line, ensure_ascii=False).encode() + b"\n"


def check_target(index: Index, output: str, is_folder: bool = False, flag: str = "--output") -> None:
    """Check that ``output`` overwrites neither the index nor a shard that it points into.

    Links are resolved on a local disk.

    Args:
        index: The index that is exported.
        output: URL of a file or a folder.
        is_folder: ``output`` is a folder of records. It must then hold no indexed shard: scoring the folder
            later would read that shard beside the exported records.
        flag: The option that named it, for the errors.

    Raises:
        UsageError: ``output`` is ``-``, inside the index, or a shard, or it is a folder that holds one.
    """
    if output == "-":
        raise UsageError(f"a file for {flag}", "-", "name a file")
    target, home = real_path(output), real_path(index.url)
    if _is_below(target, home):
        raise UsageError(f"{flag} outside the index {index.url}", output, f"choose another {flag}")
    for shard in indexed_shards(index):
        try:
            place = real_path(shard.url)
        except StorageError:  # no driver, or no TLS: a store that cannot be opened does not hold the output
            continue
        if place == target or (is_folder and _is_below(place, target)):
            raise UsageError(
                f"{flag} without any shard of the index", f"{shard.url} at {output}",
                f"choose another {flag}",
            )  # fmt: skip


def _is_below(place: str, folder: str) -> bool:
    return place == folder or place.startswith(join(folder, ""))
