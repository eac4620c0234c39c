"""An index of very many rollouts with their shard, made in seconds by the library's own functions."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from bisieve import schemas
from bisieve.index.manifest import ROWS_VERSION, Manifest, fingerprint, publish, version_folder
from bisieve.index.rerank import count_usable, rescored
from bisieve.index.writer import (
    RankedFile,
    part_path,
    write_file_list,
    write_part,
    write_ranked_file,
    write_source_list,
)
from bisieve.io.conditional import read_pointer
from bisieve.io.storage import file_info
from bisieve.ranking.order import ranked
from bisieve.records.options import Parameters
from bisieve.schemas import MANIFEST

PARAMETERS = Parameters(0.05, "source", "file", 0)
OF_A_QUESTION = 8
SOURCES = ("adding", "counting", "reading", "sorting")
_ROWS_PER_FILE = 131_072
_PATTERNS = [[(16 - (n * place) % 17) / 16 for place in range(2 + n % 3)] for n in range(32)]


def make_many(folder: Path, rollouts: int) -> tuple[str, str]:
    """Returns the URLs of an index of so many rollouts, eight a question, and of their images."""
    (folder / "images").mkdir(parents=True)
    (folder / "shards").mkdir()
    for number in range(4):
        Image.new("RGB", (60, 40), (60 * number, 99, 9)).save(folder / f"images/{number}.png")
    parts = [_usable(folder / f"shards/{name}.jsonl", rollouts // len(SOURCES), name) for name in SOURCES]
    rows = ranked(rescored(pa.concat_tables(parts), PARAMETERS), PARAMETERS)
    shards = [file_info(str(folder / f"shards/{name}.jsonl")) for name in SOURCES]
    url, name = f"file://{folder / 'index'}", fingerprint(PARAMETERS, shards)
    place, totals = version_folder(name), count_usable(rows)
    counts = totals.rollouts
    files: list[RankedFile] = [
        write_ranked_file(
            url,
            part_path(f"{place}/rollouts", number),
            rows.slice(start, _ROWS_PER_FILE),
            16_384,
            counts,
            "source",
        )
        for number, start in enumerate(range(0, rows.num_rows, _ROWS_PER_FILE))
    ]
    known = [{"url": file.url, "size": file.size, "etag": file.etag, "layout": "rollouts"} for file in shards]
    written = [each.file for each in files]
    manifest = Manifest(
        fingerprint=name, parameters=PARAMETERS, inputs=[f"file://{folder / 'shards'}"],
        rollouts=rows.num_rows, rejected={}, examples={}, shard_bytes=sum(file.size for file in shards),
        file_bytes=sum(file.bytes for file in written),
        shards=write_part(
            url, f"{place}/shards.parquet", pa.Table.from_pylist(known, schemas.SHARDS), schemas.SHARDS
        ),
        sources=write_source_list(url, place, totals, files),
        files=write_file_list(url, place, written, []),
        software={}, rows_version=ROWS_VERSION,
    )  # fmt: skip
    publish(read_pointer(f"{url}/{MANIFEST}"), url, manifest)
    return url.removeprefix("file://"), str(folder / "images")


def _usable(shard: Path, rollouts: int, source: str) -> pa.Table:
    """Writes a shard, and returns its rows, `schemas.USABLE`."""
    steps = [
        ",".join(
            f'{{"step":"Step {place} of the way.","score":{score},"num_mc_correct":{round(score * 16)},'
            '"num_mc_total":16}'
            for place, score in enumerate(scores)
        )
        for scores in _PATTERNS
    ]
    lines = [
        f'{{"rollout_id":"{source}-{n}","image":"{n // OF_A_QUESTION % 4}.png","question":'
        f'"{source} task {n // OF_A_QUESTION}?","steps_with_score":[{steps[n % 32]}]}}\n'.encode()
        for n in range(rollouts)
    ]
    shard.write_bytes(b"".join(lines))
    lengths = np.array([len(line) for line in lines], np.int64)
    starts = np.cumsum(lengths) - lengths
    pattern = np.arange(rollouts) % 32
    sizes = np.array([len(scores) for scores in _PATTERNS])[pattern]
    ends = pa.array(np.concatenate([[0], np.cumsum(sizes)]), pa.int32())
    scores = np.concatenate([np.array(_PATTERNS[n]) for n in pattern[:32]])
    whole, rest = divmod(rollouts, 32)
    scores = np.concatenate([np.tile(scores, whole), *[np.array(_PATTERNS[n]) for n in range(rest)]])
    url = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(rollouts, np.int32)), pa.array([f"file://{shard}"])
    )
    spans = pa.StructArray.from_arrays(
        [url, pa.array(starts), pa.array(lengths)], ["shard", "offset", "length"]
    )
    nothing = pa.array(np.zeros(rollouts))
    correct = np.round(scores * 16).astype(np.int32)
    columns = {
        "source": pa.array([source]).take(pa.array(np.zeros(rollouts, np.int32))),
        "rollout_id": pa.array([f"{source}-{n}" for n in range(rollouts)]),
        "question_id": pa.array([f"{source}-{n // OF_A_QUESTION:08x}" for n in range(rollouts)]),
        "bis": nothing, "positive_fraction": nothing, "reliability": nothing,
        "num_steps": pa.array(sizes.astype(np.int32)), "num_positive": pa.array(np.zeros(rollouts, np.int32)),
        "scores": pa.ListArray.from_arrays(ends, pa.array(scores)),
        "mc_correct": pa.ListArray.from_arrays(ends, pa.array(correct)),
        "mc_total": pa.ListArray.from_arrays(ends, pa.array(np.full(len(scores), 16, np.int32))),
        "spans": pa.ListArray.from_arrays(pa.array(np.arange(rollouts + 1), pa.int32()), spans),
        "shard": url, "offset": pa.array(starts),
    }  # fmt: skip
    return pa.table(columns).select(schemas.USABLE.names).cast(schemas.USABLE)
