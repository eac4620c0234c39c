"""One corpus in every form that is read."""

import base64
import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # of images, as in Hugging Face datasets
STEP = ("step", "score", "num_mc_correct", "num_mc_total")
ROLLOUTS = (
    "jsonl", "flat.jsonl", "lists.jsonl", "jsonl.gz", "jsonl.zst", "nested.parquet", "flat.parquet",
    "lists.parquet",
)  # fmt: skip
STEPS = ("steps.jsonl", "steps.parquet")
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": lambda data: bytes(pa.Codec("zstd").compress(data, asbytes=True)),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def as_lines(records: Sequence[Any]) -> bytes:
    return b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)


def base64_text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def as_steps(record: dict[str, Any]) -> list[dict[str, Any]]:
    """A record of the rollouts layout as those of its steps; only the first one has the prompt."""
    prompt = {name: record[name] for name in ("image", "question", "question_orig") if name in record}
    return [
        {"rollout_id": record["rollout_id"], "step_index": index, **step, **(prompt if index == 0 else {})}
        for index, step in enumerate(record["steps_with_score"])
    ]


def as_flat(record: dict[str, Any]) -> dict[str, Any]:
    """A record of the rollouts layout with its steps in lists side by side."""
    rest = {name: value for name, value in record.items() if name != "steps_with_score"}
    return rest | {name: [step.get(name) for step in record["steps_with_score"]] for name in STEP}


def as_lists(record: dict[str, Any]) -> dict[str, Any]:
    """A record of the rollouts layout with its steps as a struct of lists."""
    steps = {name: [step.get(name) for step in record["steps_with_score"]] for name in STEP}
    return {**record, "steps_with_score": steps}


KINDS = ("nested", "flat", "lists", "steps")
_ROLLOUT_FORMS = {"flat": as_flat, "lists": as_lists}


def write_form(path: Path, form: str, records: Sequence[dict[str, Any]], group: int = 20) -> Path:
    """Writes ``records`` as the shard ``path`` with the suffix of ``form``; Parquet in groups of rows."""
    first, _, rest = form.partition(".")
    kind, suffix = (first, rest) if first in KINDS else ("", form)
    path = path.with_name(f"{path.name}.{suffix}")
    if kind == "steps":
        records = [step for record in records for step in as_steps(record)]
    elif kind in _ROLLOUT_FORMS:
        records = [_ROLLOUT_FORMS[kind](record) for record in records]
    path.parent.mkdir(parents=True, exist_ok=True)
    if form.endswith("parquet"):
        names = dict.fromkeys(name for row in records for name in row)
        columns = {name: [row.get(name) for row in records] for name in names}
        pq.write_table(pa.table(columns), path, row_group_size=group)
        return path
    data = COMPRESS[path.suffix if path.suffix in COMPRESS else ""](as_lines(records))
    path.write_bytes(data)
    return path


def read_records(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The records of plain JSONL shards by file stem, each with an id, images as one kind a shard."""
    found = {}
    for path in sorted(folder.glob("*.jsonl")):
        records = [json.loads(line) for line in path.read_bytes().split(b"\n") if line.strip()]
        for number, record in enumerate(records):
            record["rollout_id"] = f"{path.stem}-{number:04}"
            if path.stem.endswith("lists"):
                record["image"] = [record["image"]] if isinstance(record["image"], str) else record["image"]
            elif not isinstance(record["image"], str):
                record["image"] = record["image"][0]
        found[path.stem] = records
    return found
