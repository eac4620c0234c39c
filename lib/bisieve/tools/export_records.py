"""Records as lines of plain JSONL shards, whatever they were before."""

import json
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import pyarrow as pa

from bisieve.decoding import with_our_names
from bisieve.embedded import Save, is_embedded, located
from bisieve.fetch import changed_record, spans_of
from bisieve.image_folder import refuse
from bisieve.lines import BYTE_ORDER_MARK
from bisieve.reading import SOURCE, KnownShards, Reading
from bisieve.spans import read_spans

Record = dict[str, Any]


def plain_lines(rows: pa.Table, shards: KnownShards, save: Save = refuse) -> list[bytes]:
    """The records of ``rows`` (of `schema.INDEX`), without line ends.

    Lines stay as they are, unless fields or images were given other names: then they are written anew, as
    Parquet rows are, with the names that fields have here, images where they lie, and the id that the index
    has.  So are lines whose source is in their shard's path, which get it as a field, and lines whose images
    are in them: ``save`` makes files of those, as of rows', and names them.  What is written needs no
    ``--field`` and no ``--image-prefix``.
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


def _image_of(reading: Reading) -> type[Any]:
    """A struct that has of a line its image alone."""
    return msgspec.defstruct("Image", [("image", Any, None)], rename={"image": reading.names["image"]})


def _from_line(line: bytes, reading: Reading) -> Record:
    return with_our_names(json.loads(line), replace(reading, source_field=None))


def _from_row(row: Record, reading: Reading) -> Record:
    steps = row.get("steps_with_score")
    kept = _known(row) | ({} if steps is None else {"steps_with_score": list(map(_known, steps))})
    if reading.source_field is not None and SOURCE in kept:
        kept[reading.source_field] = kept.pop(SOURCE)
    return kept


def _known(record: Record) -> Record:
    return {name: value for name, value in record.items() if value is not None}


def _line(record: Record) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode()
