"""Export a selection with its text, in order and to the byte as the paper's procedure does."""

import json
import re
from collections.abc import Iterator
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from bisieve.errors import UsageError
from bisieve.index.reader import Index, indexed_shards
from bisieve.index.selection import Selection
from bisieve.io.storage import join, open_output, real_path
from bisieve.records.embedded_images import Save
from bisieve.records.model import Rollout
from bisieve.records.options import KnownShards
from bisieve.records.prompt import process_text
from bisieve.shards.fetch import fetch_in_chunks, in_chunks
from bisieve.tools.export_records import plain_lines, refuse

_ASCII = 127  # the last character of it
_KEPT = " !$&'()+,;=@^{}~`%"  # what a file's name may have beside letters and digits on every store
_ENCODED = re.compile("%(?=[0-9A-Fa-f]{2})")


def export_mprm_jsonl(selection: Selection, output: str, threshold: float = 0.0, save: Save = refuse) -> int:
    """Writes the selection as the paper's training file, one line a rollout; returns the number of lines.

    Sources stand in the order of their first shard, the rollouts of each in file order.  The file appears at
    ``output`` when it is complete.  ``save`` makes files of images that are in the records.
    """
    rows = in_file_order(selection.rows)
    with open_output(output) as file:
        for rollouts in fetch_in_chunks(rows, selection.shards, save):
            file.writelines(_lines(rollouts, threshold))
    return int(rows.num_rows)


def export_records(selection: Selection, output: str, save: Save = refuse) -> int:
    """Writes the selection's records as plain shards, a file ``<source>.jsonl`` a source; returns the
    rollouts.

    The folder is a corpus: it can be scored, and trained on where the first one was not seekable.  Of a
    selection of both layouts each has a folder of its own, as a file has one layout.  ``save`` makes files
    of images that are in the records.
    """
    rows = in_file_order(selection.rows)
    first = pc.struct_field(pc.list_element(rows["spans"].combine_chunks(), 0), "shard")
    layout = pa.array([selection.shards.layouts[shard] for shard in first.to_pylist()], pa.string())
    layouts = pc.unique(layout).to_pylist()
    for name in layouts:
        folder = output if len(layouts) == 1 else join(output, name)
        _export_sources(rows.filter(pc.equal(layout, name)), selection.shards, folder, save)
    return int(rows.num_rows)


def _export_sources(rows: pa.Table, shards: KnownShards, folder: str, save: Save) -> None:
    for source in pc.unique(rows["source"]).to_pylist():
        with open_output(join(folder, f"{file_name(source)}.jsonl")) as file:
            for chunk in in_chunks(rows.filter(pc.equal(rows["source"], source))):
                file.writelines(line + b"\n" for line in plain_lines(chunk, shards, save))


def file_name(source: str) -> str:
    """Return ``source`` as a file's name that lists as itself: what would hide or split it is encoded.

    So is a percent sign that could be read as such a code: different sources have different names.
    """
    source = _ENCODED.sub("%25", source)
    name = "".join(c if ord(c) > _ASCII and c.isprintable() else quote(c, safe=_KEPT) for c in source)
    return name if name[:1] not in (".", "_") else f"%{ord(name[0]):02X}{name[1:]}"


def changed_names(selection: Selection) -> list[str]:
    """Return the sources, in order, that are not called as the files that `export_records` writes of them."""
    sources = sorted(pc.unique(selection.rows["source"]).to_pylist())
    return [source for source in sources if file_name(source) != source]


def in_file_order(rows: pa.Table) -> pa.Table:
    """Rows of an index by (first shard of their source, source, shard, offset)."""
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


def check_target(index: Index, output: str, is_folder: bool = False) -> None:
    """`UsageError` where a file, or a folder of records, at ``output`` would overwrite what must stay.

    That is the index, the shards that it points into, and a folder of shards, which would be another corpus
    with the records in it.
    """
    if output == "-":
        raise UsageError("a file for --output", "-", "name a file")
    target, home = real_path(output), real_path(index.url)
    if _is_below(target, home):
        raise UsageError(f"an --output outside the index {index.url}", output, "choose another --output")
    for shard in indexed_shards(index):
        place = real_path(shard.url)
        if place == target or (is_folder and _is_below(place, target)):
            raise UsageError(
                "an --output that holds none of the shards of the index",
                f"{shard.url} at {output}", "choose another --output",
            )  # fmt: skip


def _is_below(place: str, folder: str) -> bool:
    return place == folder or place.startswith(join(folder, ""))
