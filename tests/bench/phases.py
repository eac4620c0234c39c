"""Where the time of a scoring run goes: each phase alone, on one core, with no engine.

    PYTHONPATH=tests python -m bench.phases --input .bench/corpora/rollouts-1x

Prints CPU microseconds a rollout.  What the whole command takes beyond their sum is Spark: its start, the
JVM's own work, and bytes on their way between it and the workers.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa

from bisieve import schemas
from bisieve.index import writer
from bisieve.ranking.order import ranking_order
from bisieve.ranking.sort import INTERVALS_A_FILE, Cuts, Run, choose_bounds
from bisieve.records.decode import lines_decoder
from bisieve.records.options import Parameters
from bisieve.scan.batches import ScanOptions
from bisieve.scan.chunks import Chunk, chunked
from bisieve.scan.rollouts import BLOCK, scan_rollouts
from bisieve.shards.jsonl import read_blocks
from bisieve.shards.listing import Split, list_shards, plan_tasks

Result = TypeVar("Result")
PARAMETERS = Parameters(0.05, "source", "file", 0)
OPTIONS = ScanOptions(PARAMETERS.alpha)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses, runs every phase, prints what each took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", required=True, help="shards of the rollouts layout, plain JSONL")
    tasks = plan_tasks(list_shards([parser.parse_args(arguments).input]), 2)
    taken: dict[str, float] = {}
    pa.set_cpu_count(1)  # as in Spark's workers
    pa.array(np.zeros(1))  # imports pandas, once

    def timed(phase: str, work: Callable[[], Result]) -> Result:
        began = time.process_time()
        result = work()
        taken[phase] = time.process_time() - began
        return result

    timed("read from the page cache", lambda: read(tasks, decode=False))
    timed("read, decode with msgspec", lambda: read(tasks, decode=True))
    batches = timed("scan: read, decode, check, columns, BIS", lambda: scan(tasks))
    chunks = timed("sort and pack runs", lambda: chunk(batches))
    cuts, pieces = timed("count and cut runs", lambda: cut([chunk.usable for chunk in chunks], chunks))
    timed("merge and write files", lambda: write(cuts, pieces))
    for phase, seconds in taken.items():
        print(f"{phase:42} {seconds / cuts.num_rows * 1e6:6.2f}")


def read(tasks: list[list[Split]], decode: bool) -> None:
    """All blocks, their records decoded or not."""
    decode_lines = lines_decoder("rollouts", OPTIONS.reading)
    for split in (split for task in tasks for split in task):
        for block in read_blocks(split.shard, split.start, split.end, BLOCK):
            if decode:
                decode_lines(block.data)


def scan(tasks: list[list[Split]]) -> list[list[pa.RecordBatch]]:
    """Scored rollouts, by task."""
    return [[batch for split in task for batch in scan_rollouts(split, OPTIONS)] for task in tasks]


def chunk(batches: list[list[pa.RecordBatch]]) -> list[Chunk]:
    """Sorted runs with their samples and totals."""
    return [made for number, of in enumerate(batches) for made in chunked(number, of, PARAMETERS)]


def cut(runs: list[Run], chunks: list[Chunk]) -> tuple[Cuts, dict[int, list[Run]]]:
    """The pieces of each file."""
    samples = [made.summary.usable_sample for made in chunks]
    num_rows = sum(sum(sample.weights) for sample in samples)
    num_files = -(-num_rows // writer.ROWS_PER_FILE)
    bounds = choose_bounds(samples, ranking_order(PARAMETERS), INTERVALS_A_FILE * num_files)
    cuts = Cuts(bounds, np.sum([bounds.counts(run) for run in runs], axis=0), writer.ROWS_PER_FILE)
    pieces: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        for file, piece in cuts.pieces(run):
            pieces[file].append(piece)
    return cuts, pieces


def write(cuts: Cuts, pieces: dict[int, list[Run]]) -> None:
    """Merges and writes every file."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(cuts.num_files):
            first, rows = cuts.merged(number, pieces[number])
            rows = rows.append_column("rank", pa.array(first + 1 + np.arange(rows.num_rows)))
            writer.write_part(folder, writer.part_path("rollouts", number), rows, schemas.INDEX)


if __name__ == "__main__":
    main()
