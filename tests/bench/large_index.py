"""What a report of a very large index takes: ``python -m bench.large_index FOLDER --rollouts 56e6``.

The index is made without shards: its rows are drawn like those of the benchmark's corpora, and ranked and
written by the library, source by source.  Its rollouts have no text, so the report shows none.
"""

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.corpora.scores import N, draw_counts, draw_num_steps
from bench.corpora.sources import Source
from bench.measure import measure
from bisieve import schemas
from bisieve.index.manifest import ROWS_VERSION, Manifest, fingerprint, publish, version_folder
from bisieve.index.rerank import count_usable, rescored
from bisieve.index.writer import (
    ROWS_PER_FILE,
    ROWS_PER_GROUP,
    RankedFile,
    part_path,
    write_file_list,
    write_part,
    write_ranked_file,
    write_source_list,
)
from bisieve.io.conditional import read_pointer
from bisieve.io.storage import FileInfo
from bisieve.ranking.order import ranked
from bisieve.ranking.sort import constant_column
from bisieve.records.options import Parameters
from bisieve.scan.chunks import Totals, add_up
from bisieve.schemas import MANIFEST

PARAMETERS = Parameters(0.05, "source", "file", 0)
OF_A_QUESTION = 4
LINE_BYTES = 3_000
ID_BYTES = 16
_LIKE = Source("", 0.8566, 5600, 1000)  # with the mean score and the steps a rollout of the real corpus


def make_index(folder: Path, rollouts: int, sources: int, processes: int = 2) -> str:
    """Makes the index in ``folder``, in this process if ``processes`` is 0, and returns its path."""
    url = f"file://{folder}"
    each = rollouts // sources
    shards = [
        FileInfo(f"file:///corpus/{_name(n)}.jsonl", each * LINE_BYTES, f"{n:x}") for n in range(sources)
    ]
    name = fingerprint(PARAMETERS, shards)
    place = version_folder(name)
    written: list[RankedFile] = []
    totals = Totals()
    write = partial(_write_source, url, place, each)
    with ExitStack() as stack:
        mapped = map
        if processes:
            mapped = stack.enter_context(ProcessPoolExecutor(processes, get_context("spawn"))).map
        for files, its_totals in mapped(write, range(sources)):
            written += files
            totals = add_up([totals, its_totals])
    files = [file.file for file in written]
    known = [{"url": each.url, "size": each.size, "etag": each.etag, "layout": "rollouts"} for each in shards]
    manifest = Manifest(
        fingerprint=name, parameters=PARAMETERS, inputs=["file:///corpus"], rollouts=each * sources,
        rejected={}, examples={}, shard_bytes=sum(shard.size for shard in shards),
        file_bytes=sum(file.bytes for file in files),
        shards=write_part(
            url, f"{place}/shards.parquet", pa.Table.from_pylist(known, schemas.SHARDS), schemas.SHARDS
        ),
        sources=write_source_list(url, place, totals, written),
        files=write_file_list(url, place, files, []),
        software={}, rows_version=ROWS_VERSION,
    )  # fmt: skip
    publish(read_pointer(f"{url}/{MANIFEST}"), url, manifest)
    return str(folder)


def _name(number: int) -> str:
    return f"source-{number:07d}"


def _write_source(url: str, place: str, rollouts: int, number: int) -> tuple[list[RankedFile], Totals]:
    rows = ranked(rescored(_usable(number, rollouts), PARAMETERS), PARAMETERS)
    first_part = number * -(-rollouts // ROWS_PER_FILE)
    files = [
        write_ranked_file(
            url, part_path(f"{place}/rollouts", first_part + part),
            rows.slice(start, ROWS_PER_FILE), ROWS_PER_GROUP, {_name(number): rollouts}, "source",
        )
        for part, start in enumerate(range(0, rollouts, ROWS_PER_FILE))
    ]  # fmt: skip
    return files, count_usable(rows)


def _usable(number: int, rollouts: int) -> pa.Table:
    """Draws the rows of a source, `schemas.USABLE`, in the order of its shard."""
    rng = np.random.default_rng([number, 11])
    num_steps = draw_num_steps(rng, _LIKE, rollouts)
    counts = draw_counts(rng, _LIKE, num_steps)
    ends = pa.array(np.concatenate([[0], np.cumsum(num_steps)]), pa.int32())
    shard = constant_column(f"file:///corpus/{_name(number)}.jsonl", rollouts)
    starts = pa.array(np.arange(rollouts) * LINE_BYTES)
    lengths = pa.array(np.full(rollouts, LINE_BYTES))
    spans = pa.StructArray.from_arrays([shard, starts, lengths], ["shard", "offset", "length"])
    questions = _ids(rng, -(-rollouts // OF_A_QUESTION))
    zeros = np.zeros(rollouts)
    columns = {
        "source": constant_column(_name(number), rollouts),
        "rollout_id": _ids(rng, rollouts),
        "question_id": questions.take(pa.array(np.arange(rollouts) // OF_A_QUESTION)),
        "bis": zeros, "positive_fraction": zeros, "reliability": zeros,
        "num_steps": num_steps, "num_positive": np.zeros(rollouts, np.int32),
        "scores": pa.ListArray.from_arrays(ends, pa.array(counts / N)),
        "mc_correct": pa.ListArray.from_arrays(ends, pa.array(counts, pa.int32())),
        "mc_total": pa.ListArray.from_arrays(ends, pa.array(np.full(len(counts), N, np.int32))),
        "spans": pa.ListArray.from_arrays(pa.array(np.arange(rollouts + 1), pa.int32()), spans),
        "shard": shard, "offset": starts,
    }  # fmt: skip
    return pa.table(columns).select(schemas.USABLE.names).cast(schemas.USABLE)


def _ids(rng: np.random.Generator, number: int) -> pa.StringArray:
    text = rng.bytes(ID_BYTES * number).hex().encode()
    offsets = np.arange(0, len(text) + 1, 2 * ID_BYTES, dtype=np.int32)
    return pa.StringArray.from_buffers(number, pa.py_buffer(offsets), pa.py_buffer(text))


def main() -> None:
    """Makes the index if it is missing, and measures a report of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rollouts", type=float, default=56e6)
    parser.add_argument("--sources", type=float, default=40)
    args = parser.parse_args()
    folder = args.folder.resolve()
    if not (folder / MANIFEST).exists():
        make_index(folder, int(args.rollouts), int(args.sources))
    page, log = (folder.with_suffix(ending) for ending in (".html", ".log"))
    words = ["-m", "bisieve", "report", "--index", str(folder), "--html", str(page)]
    print(measure([sys.executable, *words], log, os.environ), f"{page.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
