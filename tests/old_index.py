"""Indexes that older versions of bisieve wrote, kept as bytes, set up over a corpus that is made anew.

``fixtures/index-v1`` is what commit 4c89a76 made of `write_rollouts`, and ``fixtures/index-v2`` what cbed8bb
made of it with `write_steps` beside it; both when the corpus lay at `HOME`.
"""

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from forms import as_lines, as_steps

from bisieve.index_format import MANIFEST
from bisieve.storage import join, write_bytes

FIXTURES = Path(__file__).parent / "fixtures"
HOME = "file:///tmp/corpus"
CHANGED = 1_700_000_000  # seconds since 1970: the shards' time of change, which is their etag


def write_rollouts(corpus: Path) -> None:
    """Two sources of ten records: mixed, all-positive and all-negative rollouts, ties, and four rejects."""
    every = [
        (1.0, 0.5, 0.0), (1.0, 1.0), (0.0, 0.0), (0.75, 0.25), (1.0, 1.0), (0.5,), (0.0, 1.0), (1.0, 1.0),
        (0.25, 0.0, 0.0, 1.0),
    ]  # fmt: skip
    _write(corpus / "maths.jsonl", [*_rollouts("m", every), b"{"])
    bad = [_rollout("b0", (2.0,)), _rollout("b1", ()), _rollout("b2", (1.0,)) | {"image": ""}]
    _write(corpus / "science.jsonl", [*_rollouts("s", every[:7]), *bad])


def write_steps(corpus: Path) -> None:
    """Six rollouts as steps over two shards, one that lacks a step, and a step of no rollout."""
    whole = [
        step for record in _rollouts("w", [(1.0, 0.0), (0.5, 0.5, 1.0)] * 3) for step in as_steps(record)
    ]
    lacking = as_steps(_rollout("lacking", (1.0, 0.5, 0.0)))
    homeless = {"step_index": 0, "step": "x", "score": 1.0}
    _write(corpus / "steps-a.jsonl", [*whole[::2], lacking[0], homeless])
    _write(corpus / "steps-b.jsonl", [*whole[1::2], lacking[2]])


def _rollouts(name: str, scores: list[tuple[float, ...]]) -> list[dict[str, Any]]:
    return [_rollout(f"{name}{number}", mine) for number, mine in enumerate(scores)]


def _rollout(name: str, scores: tuple[float, ...]) -> dict[str, Any]:
    steps = [
        {"step": f"step {place}", "score": score, "num_mc_correct": int(score * 16), "num_mc_total": 16}
        for place, score in enumerate(scores)
    ]
    return {"rollout_id": name, "image": f"{name[-1]}.png", "question": "How?", "steps_with_score": steps}


def _write(path: Path, records: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [record + b"\n" if isinstance(record, bytes) else as_lines([record]) for record in records]
    path.write_bytes(b"".join(lines))
    os.utime(path, (CHANGED, CHANGED))


def set_up(version: int, corpus: Path, index: str) -> None:
    """Puts the index of format ``version`` at the URL ``index``, and the shards that it has at ``corpus``."""
    write_rollouts(corpus)
    if version > 1:
        write_steps(corpus)
    stored, home = FIXTURES / f"index-v{version}", f"file://{corpus}"
    manifest = (stored / MANIFEST).read_text(encoding="utf-8")
    files = {path: _moved(path, home) for path in stored.rglob("*.parquet")}
    (shards,) = (path for path in files if path.name == "shards.parquet")
    was, now = _fingerprint(manifest, shards.read_bytes()), _fingerprint(manifest, files[shards])
    assert was == json.loads(manifest)["fingerprint"]
    changed = {was: now, was[:16]: now[:16], HOME: home}
    for path, data in files.items():
        old = path.read_bytes()
        changed |= {f'"bytes": {len(old)}': f'"bytes": {len(data)}', _sha256(old): _sha256(data)}
    for before, after in changed.items():
        manifest = manifest.replace(before, after)
    files |= {path: manifest.encode() for path in stored.rglob(MANIFEST)}
    for path, data in files.items():
        write_bytes(join(index, str(path.relative_to(stored)).replace(was[:16], now[:16])), data)


def _fingerprint(manifest: str, shards: bytes) -> str:
    """As formats 1 and 2 had it."""
    fields = json.loads(manifest)
    made_of = json.dumps([fields["format_version"], fields["parameters"]], sort_keys=True).encode()
    for shard in pq.read_table(io.BytesIO(shards)).to_pylist():
        made_of += json.dumps([shard["url"], shard["size"], shard["etag"]]).encode() + b"\n"
    return _sha256(made_of)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _moved(path: Path, home: str) -> bytes:
    """The bytes of a Parquet file with ``home`` in the place of `HOME`."""
    rows = pq.ParquetFile(path).read()
    texts = json.loads(json.dumps(rows.to_pylist()).replace(HOME, home))
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(texts, rows.schema), buffer, compression="zstd")
    return buffer.getvalue()
