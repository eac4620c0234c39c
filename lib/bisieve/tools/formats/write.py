"""Write a selection in a format of JSON lines (`LineFormat`); for InternVL, meta.json beside it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

import msgspec

from bisieve.events import ignored
from bisieve.index.selection import Selection
from bisieve.io.storage import open_output, write_bytes
from bisieve.io.urls import basename, canonical, is_local, join, open_filesystem
from bisieve.records.embedded_images import Save
from bisieve.shards.fetch import fetch_in_chunks
from bisieve.tools.export import in_file_order
from bisieve.tools.formats.chat import INTERNVL
from bisieve.tools.formats.line_format import Findings, LineFormat
from bisieve.tools.image_folder import refuse

ANNOTATIONS, META = "annotations.jsonl", "meta.json"


@dataclass(frozen=True)
class Written:
    """What an export wrote."""

    rollouts: int
    notes: list[str]  # what the format does not carry, a line each


def export_lines(
    selection: Selection, output: str, format: LineFormat, save: Save = refuse, image_root: str = "",
    skip_unsupported: bool = False, wrote: Callable[[int], None] = ignored,
) -> Written:  # fmt: skip
    """Write the selection as JSON lines of ``format``, in the order of the paper's training file.

    The file becomes visible when it is complete. Nothing is written if a rollout is refused.

    Args:
        selection: The rollouts to write.
        output: URL of the file; with the format internvl, of the folder.
        format: The format.
        save: Writes the images that are embedded in records to files and returns their names.
        image_root: Where the images are: ``root`` in InternVL's meta.json.
        skip_unsupported: Leave out the rollouts that the format cannot carry.
        wrote: Called with the number of rollouts of each part that is done.

    Raises:
        UsageError: A rollout cannot be written in this format, or a record has an embedded image and ``save``
            is the default.
        ImageError: An embedded image cannot be decoded, or its file exists with other bytes.
        IndexUnusableError: A span does not hold the indexed rollout any more.
        StorageError: A shard cannot be read, or ``output`` cannot be written.
    """
    url = join(output, ANNOTATIONS) if format is INTERNVL else output
    findings = Findings(format)
    with open_output(url) as file:
        written = _write(selection, file, findings, save, wrote)
        if not skip_unsupported or not written:
            findings.refuse(written)
    if format is INTERNVL:
        write_bytes(join(output, META), internvl_meta(output, image_root, written))
    return Written(written, findings.notes)


def _write(
    selection: Selection, file: IO[bytes], findings: Findings, save: Save, wrote: Callable[[int], None]
) -> int:
    """Write the rollouts that the format carries; return their number."""
    written = 0
    for rollouts in fetch_in_chunks(in_file_order(selection.rows), selection.shards, save):
        carried = filter(findings.carries, rollouts)
        for rollout in carried:
            record = findings.format.convert(rollout, selection.parameters.threshold)
            file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            written += 1
        wrote(len(rollouts))
    return written


def internvl_meta(folder: str, image_root: str, rollouts: int) -> bytes:
    """Return InternVL's list of data sets (``--meta_path``) with the one in ``folder``."""
    entry = {
        "root": _path(image_root) if image_root else "",
        "annotation": _path(join(folder, ANNOTATIONS)),
        "data_augment": False,
        "repeat_time": 1,
        "length": rollouts,
    }
    meta = {basename(canonical(folder)): entry}
    return msgspec.json.format(msgspec.json.encode(meta), indent=2) + b"\n"


def _path(url: str) -> str:
    """Return an absolute path for a URL of a local disk, as trainers read it; another URL unchanged."""
    return open_filesystem(url)[1] if is_local(url) else url
