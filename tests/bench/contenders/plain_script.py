"""Scores a corpus as a plain script would: one process, json.loads, sort, by the paper's procedure.

Gives every column of the index.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

ALPHA = 0.05


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    args.output.mkdir(parents=True)
    for shard in sorted(args.input.glob("*.jsonl")):
        ranked = rank(scored(shard))
        pq.write_table(ranked, args.output / f"{shard.stem}.parquet", compression="zstd")


def scored(shard: Path) -> dict[str, list[Any]]:
    """The usable rollouts of a shard, by column."""
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names if name not in ("source", "rank")}
    add = {name: column.append for name, column in columns.items()}
    offset = 0
    with open(shard, "rb") as lines:
        for line in lines:
            length, begins = len(line), offset
            offset += length
            record = json.loads(line)
            image = record.get("image")
            question = (record.get("question_orig") or record.get("question") or "").strip()
            steps = record.get("steps_with_score")
            if not (image and question and steps):
                continue
            scores = [step["score"] for step in steps]
            if not all(type(score) in (float, int) and 0.0 <= score <= 1.0 for score in scores):
                continue
            if not all(step["step"].strip() for step in steps):
                continue
            positives = [score for score in scores if score > 0.0]
            p = len(positives) / len(scores)
            reliability = sum(positives) / len(positives) if positives else 1.0
            images = image if isinstance(image, str) else "\0".join(image)
            add["rollout_id"](xxhash.xxh3_128_hexdigest(line))
            add["question_id"](xxhash.xxh3_128_hexdigest(f"{images}\0{question}".encode()))
            add["bis"]((p * (1.0 - p) + ALPHA) * reliability)
            add["positive_fraction"](p)
            add["reliability"](reliability)
            add["num_steps"](len(scores))
            add["num_positive"](len(positives))
            add["scores"](scores)
            add["mc_correct"]([step["num_mc_correct"] for step in steps])
            add["mc_total"]([step["num_mc_total"] for step in steps])
            add["shard"](shard.name)
            add["offset"](begins)
            add["length"](length - 1)
    return columns


def rank(columns: dict[str, list[Any]]) -> pa.Table:
    """The rollouts of a source, the best first; the sort is stable, so ties stay in file order."""
    bis = columns["bis"]
    order = sorted(range(len(bis)), key=lambda place: -bis[place])
    source = [Path(name).stem for name in columns["shard"]]
    rank = list(range(1, len(bis) + 1))
    fields = [SCHEMA.field(name) for name in columns]
    table = pa.table(columns, schema=pa.schema(fields)).take(order)
    table = table.append_column("source", pa.array(source, pa.string()))
    return table.append_column("rank", pa.array(rank, pa.int64())).select(SCHEMA.names)


SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("rank", pa.int64()),
        ("rollout_id", pa.string()),
        ("question_id", pa.string()),
        ("bis", pa.float64()),
        ("positive_fraction", pa.float64()),
        ("reliability", pa.float64()),
        ("num_steps", pa.int32()),
        ("num_positive", pa.int32()),
        ("scores", pa.list_(pa.float64())),
        ("mc_correct", pa.list_(pa.int32())),
        ("mc_total", pa.list_(pa.int32())),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
    ]
)

if __name__ == "__main__":
    main()
