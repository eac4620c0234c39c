"""Turn the records of a selection into plain JSONL lines, which can be read without their index's options."""

import json
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import pyarrow as pa

from bisieve.records.decode import BYTE_ORDER_MARK, with_our_names
from bisieve.records.embedded_images import Save, is_embedded, located
from bisieve.records.options import SOURCE, KnownShards, ReadOptions
from bisieve.shards.fetch import changed_record, read_spans, spans_of
from bisieve.tools.image_folder import refuse

Record = dict[str, Any]


def plain_lines(rows: pa.Table, shards: KnownShards, save: Save = refuse) -> list[bytes]:
    """Return the records of ``rows`` (schema `schemas.INDEX`) as JSON lines without a line end.

    A JSONL record is copied byte for byte, without a byte order mark. It is encoded again, as every Parquet
    row is, if the index was scored with ``--field`` or ``--image-prefix``, if its source is part of the
    shard's path (``source=geo/part-0.parquet``), or if its image is embedded. The new line has bisieve's own
    field names, final image names, the index's ``rollout_id`` if the record has none, and the source as a
    field if it was in the path; so it can be read without ``--field`` and ``--image-prefix``.

    Args:
        rows: Rows of an index.
        shards: How the records of the index's shards are read.
        save: Writes embedded images to files and returns their names.

    Returns:
        One line per record, in the order of ``rows``; a rollout of the layout "steps" has one line per step.

    Raises:
        UsageError: A record has an embedded image and ``save`` is the default.
        ImageError: An embedded image cannot be decoded, or its file exists with other bytes.
        IndexUnusableError: A span does not hold the indexed record any more.
        StorageError: A shard cannot be read.
    """
    reading, spans = shards.reading, spans_of(rows)
    locate = partial(located, reading=reading, save=save)
    found = read_spans(sorted({span for row in spans for span in row}), shards, locate)
    image_in = msgspec.json.Decoder(_image_of(reading)).decode
    as_they_are = not reading.fields and not reading.image_prefixes
    lines = []
    for rollout_id, row in zip(rows["rollout_id"].to_pylist(), spans, strict=True):
        for span in row:
            record = found.get(span)
            if record is None:
                raise changed_record(rollout_id, row)
            partition = reading.partition_of(span[0])
            if isinstance(record, bytes):
                record = record.removeprefix(BYTE_ORDER_MARK)
                if as_they_are and partition is None and not is_embedded(image_in(record).image):
                    lines.append(record)
                    continue
                whole = _from_line(record, reading)
                if "image" in whole:
                    whole["image"] = locate(whole["image"], f"{span[0]}@{span[1]}")
            else:
                whole = _from_row(record, reading)
            named = {} if partition is None else {str(reading.source_field): partition}
            lines.append(_line({"rollout_id": rollout_id} | named | whole))
    return lines


def _image_of(reading: ReadOptions) -> type[Any]:
    """Return a struct that decodes only the image of a line."""
    return msgspec.defstruct("Image", [("image", Any, None)], rename={"image": reading.names["image"]})


def _from_line(line: bytes, reading: ReadOptions) -> Record:
    return with_our_names(json.loads(line), replace(reading, source_field=None))


def _from_row(row: Record, reading: ReadOptions) -> Record:
    steps = row.get("steps_with_score")
    kept = _known(row) | ({} if steps is None else {"steps_with_score": list(map(_known, steps))})
    if reading.source_field is not None and SOURCE in kept:
        kept[reading.source_field] = kept.pop(SOURCE)
    return kept


def _known(record: Record) -> Record:
    return {name: value for name, value in record.items() if value is not None}


def _line(record: Record) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode()
