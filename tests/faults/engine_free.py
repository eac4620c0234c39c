"""Scans, scores, ranks and writes a fixed corpus with no engine, and prints a hash of all files it wrote.

Any Python with the five packages that the library itself needs can run it.
"""

import hashlib
import json
import tempfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
from support import reference

from bisieve import schemas
from bisieve.index.writer import part_path, write_part
from bisieve.ranking.order import INDEX_ORDER, ranking_order
from bisieve.ranking.sort import Cuts, choose_bounds, sorted_indices
from bisieve.records.options import Parameters, ReadOptions
from bisieve.scan.batches import ScanOptions
from bisieve.scan.chunks import Chunk, chunked
from bisieve.scan.group_steps import assemble_unsorted, gathered, parted_by_rollout
from bisieve.scan.rollouts import scan_rollouts
from bisieve.scan.steps import scan_steps
from bisieve.shards.listing import Split

ROWS_PER_FILE = 100
CORPUS = "memory://corpus"  # file URLs would differ between machines


def main() -> None:
    written = hashlib.sha256()
    with tempfile.TemporaryDirectory() as folder:
        reference.write_random_corpus(Path(folder) / "rollouts", seed=11, sizes={"big": 300, "ä": 40})
        reference.write_as_steps(Path(folder) / "rollouts", Path(folder) / "steps", seed=11)
        for layout in ("rollouts", "steps"):
            for path in sorted((Path(folder) / layout).iterdir()):
                fsspec.filesystem("memory").pipe_file(f"/corpus/{layout}/{path.name}", path.read_bytes())
            for ties, scope in (("file", "source"), ("hash", "global")):
                parameters = Parameters(0.05, scope, ties, 3, ReadOptions(layout=layout))
                for data in index_files(parameters, sorted((Path(folder) / layout).iterdir())):
                    written.update(data)
    print(written.hexdigest())


def index_files(parameters: Parameters, shards: list[Path]) -> list[bytes]:
    """The files of an index, ranked over all by the order of ``parameters``, and its totals."""
    splits, layout = [], parameters.reading.layout
    for path in shards:
        size = path.stat().st_size
        for start in range(0, size, 50_000):
            splits.append(Split(f"{CORPUS}/{layout}/{path.name}", start, min(start + 50_000, size)))
    chunks = scanned(parameters, splits)
    order = ranking_order(parameters)
    runs = [chunk.usable for chunk in chunks]
    bounds = choose_bounds([chunk.summary.usable_sample for chunk in chunks], order, 16)
    cuts = Cuts(bounds, np.sum([bounds.counts(run) for run in runs], axis=0), ROWS_PER_FILE)
    pieces = [piece for run in runs for piece in cuts.pieces(run)]
    files = []
    for number in range(cuts.num_files):
        first, rows = cuts.merged(number, [run for file, run in pieces if file == number])
        rows = rows.append_column("rank", pa.array(first + 1 + np.arange(rows.num_rows)))
        path = part_path("rollouts", number)
        write_part("memory://index", path, rows.take(sorted_indices(rows, INDEX_ORDER)), schemas.INDEX, 30)
        files.append(fsspec.filesystem("memory").cat_file(f"/index/{path}"))
    counted = [sorted(chunk.summary.totals.sources.items()) for chunk in chunks]
    return [*files, json.dumps(counted).encode()]


def scanned(parameters: Parameters, splits: list[Split]) -> list[Chunk]:
    options = ScanOptions(parameters.alpha)
    chunks: list[Chunk] = []
    if parameters.reading.layout == "rollouts":
        for number, split in enumerate(splits):
            chunks += chunked(number, scan_rollouts(split, options), parameters)
        return chunks
    parted = [piece for split in splits for piece in parted_by_rollout(scan_steps(split, options), 3)]
    for part in range(3):
        for table in gathered(rows for place, rows in parted if place == part):
            chunks += chunked(part, assemble_unsorted(table, options), parameters)
    return chunks


if __name__ == "__main__":
    main()
