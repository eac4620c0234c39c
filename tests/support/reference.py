"""The paper's procedure (§4 and App. C) as a plain script: what every other way must agree with.

Written from the description alone, with nothing of the library in it.
"""

import json
import random
from pathlib import Path
from typing import Any


def bis(scores: list[float], alpha: float) -> float:
    positives = [score for score in scores if score > 0.0]
    p = len(positives) / len(scores)
    total = 0.0
    for score in positives:
        total = total + score
    reliability = total / len(positives) if positives else 1.0
    return (p * (1.0 - p) + alpha) * reliability


def select(folder: Path, fraction: float, alpha: float) -> bytes:
    """The training file: per annotation file the best by BIS, ties in file order, written in file order."""
    out = []
    for path in sorted(folder.glob("*.jsonl")):
        records = [json.loads(line) for line in path.read_bytes().split(b"\n") if line.strip()]
        scores = [bis([step["score"] for step in record["steps_with_score"]], alpha) for record in records]
        ranked = sorted(range(len(records)), key=lambda place: -scores[place])
        for place in sorted(ranked[: max(1, int(len(records) * fraction))]):
            out.append(_line(records[place]))
    return "".join(out).encode()


def _line(record: dict[str, Any]) -> str:
    question = (record.get("question_orig") or record.get("question")).strip()
    process = "\n\n".join(step["step"].strip() + "<prm>" for step in record["steps_with_score"])
    labels = [1.0 if step["score"] > 0 else 0.0 for step in record["steps_with_score"]]
    conversations = [
        {"from": "human", "value": f"Question: {question}\nProcess: {process}"},
        {"from": "gpt", "value": labels},
    ]
    return json.dumps({"image": record["image"], "conversations": conversations}, ensure_ascii=False) + "\n"


def write_random_corpus(folder: Path, seed: int, sizes: dict[str, int]) -> None:
    """A clean corpus: heavy ties, scores that are no dyadic fractions, text that trips line splitters."""
    rng = random.Random(seed)
    odd = ["\u2028", "\u2029", "\x85", "\x0b", "\x1c", "é", "数", "\U0001f600", "\\n", '"']
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in sizes.items():
        with open(folder / f"{name}.jsonl", "w", encoding="utf-8", newline="\n") as file:
            for number in range(size):
                steps = []
                grid = rng.choice([10, 16, 16, 7])
                pure = rng.random() < 0.6
                for place in range(rng.randint(1, 9)):
                    correct = grid if pure else rng.choice([0, 0, 1, grid // 2, grid - 1, grid])
                    text = f" step {place}{rng.choice(odd)}of {number}\t"
                    steps.append(
                        {
                            "step": text,
                            "score": correct / grid,
                            "num_mc_correct": correct,
                            "num_mc_total": grid,
                        }
                    )
                image: Any = f"{name}/{number % 5}.png"
                record = {
                    "image": [image, "b.png"] if rng.random() < 0.1 else image,
                    "question": f"  <image>\nWhat is {number}{rng.choice(odd)}?  ",
                    "answer": "5",
                    "response": "…",
                    "steps_with_score": steps,
                    "num_mc_sequences": grid,
                }
                if rng.random() < 0.7:
                    record["question_orig"] = rng.choice(["", f" What is {number}? "])
                file.write(json.dumps(record, ensure_ascii=rng.random() < 0.5) + "\n")


def write_as_steps(rollouts: Path, folder: Path, seed: int) -> None:
    """The rollouts of a corpus as one of steps, scattered over three shards in any order."""
    steps = []
    for path in sorted(rollouts.glob("*.jsonl")):
        lines = [line for line in path.read_bytes().split(b"\n") if line]
        for number, record in enumerate(map(json.loads, lines)):
            head = {name: record[name] for name in ("image", "question")}
            for index, step in enumerate(record["steps_with_score"]):
                named = {"rollout_id": f"{path.stem} {number}", "step_index": index, **step}
                steps.append({**named, **(head if index == 0 else {})})
    random.Random(seed).shuffle(steps)
    folder.mkdir(parents=True)
    for shard in range(3):
        text = "".join(json.dumps(step, ensure_ascii=False) + "\n" for step in steps[shard::3])
        (folder / f"{shard}.jsonl").write_bytes(text.encode())
