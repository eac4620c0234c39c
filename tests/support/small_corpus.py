"""A corpus small enough to train on: rollouts of two sources, images of a colour, an index, a benchmark."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from bisieve.io import storage
from bisieve.io.urls import file_stem
from bisieve.scoring import balanced_information_score
from bisieve.shards.listing import list_shards
from support.handmade import publish_rows

ROLLOUTS = {"adding": 31, "reading": 12}  # by source


@dataclass(frozen=True)
class Corpus:
    """Where a small corpus lies."""

    index: str
    images: str  # the image root
    benchmark: str
    shards: Path


def make_corpus(folder: Path) -> Corpus:
    """Write 43 rollouts of two sources, their images and index, and a benchmark of 24 solutions."""
    shards, images = folder / "shards", folder / "images"
    shards.mkdir()
    images.mkdir()
    for source, count in ROLLOUTS.items():
        lines = [json.dumps(make_record(source, number)) for number in range(count)]
        (shards / f"{source}.jsonl").write_text("\n".join(lines) + "\n")
    for number in range(10):
        Image.new("RGB", (28 + number, 28), (25 * number, 99, 9)).save(images / f"{number}.png")
    index = folder / "index"
    write_index(str(shards), str(index))
    benchmark = folder / "benchmark.jsonl"
    benchmark.write_text("".join(json.dumps(make_solution(number)) + "\n" for number in range(24)))
    return Corpus(str(index), str(images), str(benchmark), shards)


def write_index(shards: str, index: str) -> None:
    """The index of a folder of rollouts, ranked in plain Python: the trainer needs no Spark."""
    files, rows = list_shards([shards]), []
    for file in files:
        offset, scored = 0, []
        for line in storage.read_bytes(file.url).splitlines(keepends=True):
            record = json.loads(line)
            scores = [step["score"] for step in record["steps_with_score"]]
            span = {"shard": file.url, "offset": offset, "length": len(line)}
            scored.append((-balanced_information_score(scores), offset, scores, span, record["question"]))
            offset += len(line)
        for rank, (bis, start, scores, span, question) in enumerate(sorted(scored), start=1):
            source = file_stem(file.url)
            rows.append({
                "source": source, "rank": rank, "rollout_id": f"{source}-{start}",
                "question_id": question, "bis": -bis,
                "num_steps": len(scores), "scores": scores, "spans": [span],
            })  # fmt: skip
    publish_rows(index, rows, [shards], files)


def make_record(source: str, number: int) -> dict[str, Any]:
    scores = [1.0, 0.5 * (number % 3), float(number % 2)][: 1 + number % 3]
    steps = [
        {
            "step": f"The digit {place} is {number}.",
            "score": score,
            "num_mc_correct": int(16 * score),
            "num_mc_total": 16,
        }
        for place, score in enumerate(scores)
    ]
    question = f"What is sum {number % 10} of {source}?"  # so every tenth rollout has the same prompt
    return {
        "image": f"{number % 10}.png",
        "question": question,
        "question_orig": question,
        "steps_with_score": steps,
    }


def make_solution(number: int) -> dict[str, Any]:
    return {
        "image": [f"{number % 10}.png"],
        "question": f"What is {number}?",
        "answer": "7",
        "response": {"steps": ["I look.", f"It is {number}.", "Final answer: 7"],
                     "process_correctness": [0, 1 if number % 2 else -1, 1 if number % 3 else -1]},
        "policy_model": "none",
        "data_source": "even" if number % 2 else "odd",
    }  # fmt: skip
