"""A corpus that a report has something to say of: sources, images, ties, rejects, and text like markup."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
from PIL import Image

ATTACK = "</script><script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\">"


def write_corpus(folder: Path, rollouts: int = 40) -> Path:
    """Write shards and images; return the image root."""
    (folder / "shards").mkdir(parents=True)
    (folder / "images").mkdir()
    for number in range(4):
        Image.new("RGB", (40, 20 + number), (60 * number, 99, 9)).save(folder / f"images/{number}.png")
    for source in ("adding", "reading"):
        lines = [json.dumps(_record(source, number)) for number in range(rollouts)]
        bad = ["{", json.dumps({**_record(source, 1), "image": ""})]
        (folder / f"shards/{source}.jsonl").write_text("\n".join([*lines, *bad]) + "\n")
    return folder / "images"


def _record(source: str, number: int) -> dict[str, Any]:
    right = 6 if number % 3 else number % 5
    scores = [15 / 16 if place < right else 0.0 for place in range(6)] if number % 4 else [1.0] * 6
    steps = [
        {"step": f"Step {n}: {ATTACK}", "score": it, "num_mc_correct": int(it * 16), "num_mc_total": 16}
        for n, it in enumerate(scores)
    ]
    question = f"{source} {number // 4}? {ATTACK}"
    return {"image": f"{number // 4 % 4}.png", "question": question, "steps_with_score": steps}


def make_reported(folder: Path, score: Callable[..., Any], **options: Any) -> tuple[str, str]:
    """Return the URLs of an index of such a corpus and of its images."""
    images = write_corpus(folder / "corpus")
    score(folder / "corpus/shards", folder / "index", **options)
    return str(folder / "index"), str(images)


def make_reported_in(store: str, folder: Path, score: Callable[..., Any]) -> tuple[str, str]:
    """As `make_reported`, with the shards and the images in a store, and the index in ``folder``."""
    write_corpus(folder / "corpus")
    place = f"{store}/{folder.name}"
    fs, path = fsspec.url_to_fs(place)
    fs.put(str(folder / "corpus"), path, recursive=True)
    score(f"{place}/shards", folder / "index")
    return str(folder / "index"), f"{place}/images"
