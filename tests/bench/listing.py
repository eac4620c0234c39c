"""What the driver does with a listing of very many shards, in a store that is simulated.

``python -m bench.listing --size 1`` takes 1,000,000 shards; the last line is JSON: seconds a part, sizes.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import fsspec
import pyarrow as pa
from fsspec.spec import AbstractFileSystem

from bisieve import schemas
from bisieve.index.manifest import ROWS_VERSION, DataFile, Manifest, fingerprint
from bisieve.index.writer import (
    REPORTED,
    ROWS_PER_FILE,
    RankedFile,
    part_path,
    write_file_list,
    write_part,
    write_source_list,
)
from bisieve.io.storage import FileInfo
from bisieve.records.options import Parameters
from bisieve.scan.chunks import Totals, add_up
from bisieve.shards.listing import list_shards, plan_tasks

SHARDS = 1_000_000
SHARD_BYTES = 3_000_000
SHARD_ROLLOUTS = 1000
CORES = 256
_URL = "listing://bucket/corpus"


class ListedStore(AbstractFileSystem):  # type: ignore[misc]
    """A store whose one folder holds ``shards`` shards; they can be listed, not read."""

    protocol = "listing"
    shards = 0

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """The folder."""
        return {"name": path, "size": 0, "type": "directory"}

    def find(self, path: str, *_: Any, **__: Any) -> dict[str, dict[str, Any]]:
        """All shards, as an object store tells them."""
        names = (f"{path}/source-{n % 38:02d}/part-{n:07d}.jsonl" for n in range(self.shards))
        return {
            name: {"name": name, "size": SHARD_BYTES + n % 997, "type": "file", "ETag": f'"{n:032x}"'}
            for n, name in enumerate(names)
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=float, default=1.0)
    args = parser.parse_args()
    ListedStore.shards = max(1, round(SHARDS * args.size))
    fsspec.register_implementation("listing", ListedStore)
    print(json.dumps(plan_and_publish(Parameters(0.05, "source", "file", 0))))


def plan_and_publish(parameters: Parameters) -> dict[str, float]:
    """The driver's own work in a scoring run, without the scan; seconds of each part and sizes of files."""
    said: dict[str, float] = {}
    clock = time.monotonic()

    def lap(name: str) -> None:
        nonlocal clock
        said[name], clock = time.monotonic() - clock, time.monotonic()

    shards = list_shards([_URL])
    lap("list_s")
    tasks = plan_tasks(shards, CORES)
    lap("split_s")
    version = fingerprint(parameters, shards)
    lap("fingerprint_s")
    parts = [_totals([split.shard for split in task], parameters) for task in tasks]
    totals = add_up(parts)
    lap("totals_s")
    files = list(_ranked_files(sorted(totals.sources)))
    lap("ranked_files_s")
    set(list_shards([_URL]))  # the look whether a shard has changed meanwhile
    lap("list_again_s")
    with tempfile.TemporaryDirectory() as index:
        manifest = _write_lists(index, parameters, version, shards, totals, files)
        lap("lists_s")
        said["shards_parquet_mb"] = manifest.shards.bytes / 1e6
        said["sources_parquet_mb"] = manifest.sources.bytes / 1e6
    said["manifest_kb"] = len(manifest.to_json()) / 1e3
    said["tasks"] = len(tasks)
    return said


def _totals(shards: list[str], parameters: Parameters) -> Totals:
    """What a task would tell of its shards, each of which is a source of its own."""
    counts = [SHARD_ROLLOUTS, 5 * SHARD_ROLLOUTS, 0, SHARD_ROLLOUTS, 0]
    return Totals(
        sources={parameters.reading.source_of(shard): list(counts) for shard in shards},
        shards={shard: [SHARD_ROLLOUTS, 0] for shard in shards},
    )


def _write_lists(
    index: str,
    parameters: Parameters,
    version: str,
    shards: list[FileInfo],
    totals: Totals,
    files: list[RankedFile],
) -> Manifest:
    columns = {name: [getattr(shard, name) for shard in shards] for name in ("url", "size", "etag")}
    yields = [totals.shards[shard.url] for shard in shards]
    columns["layout"] = ["rollouts"] * len(shards)
    columns["rollouts"], columns["rejected"] = ([pair[place] for pair in yields] for place in (0, 1))
    return Manifest(
        fingerprint=version,
        rows_version=ROWS_VERSION,
        parameters=parameters,
        inputs=[_URL],
        rollouts=totals.num_rollouts,
        rejected=totals.rejected_by_reason,
        examples={},
        shard_bytes=sum(shard.size for shard in shards),
        file_bytes=sum(file.file.bytes for file in files),
        shards=write_part(index, "shards.parquet", pa.table(columns), schemas.SHARDS),
        sources=write_source_list(index, "lists", totals, files),
        files=write_file_list(index, "lists", [file.file for file in files], []),
        software={},
    )


def _ranked_files(sources: list[str]) -> Iterator[RankedFile]:
    """What tasks would tell of the files that they wrote; the rollouts of a source are all alike."""
    sources_a_file = ROWS_PER_FILE // SHARD_ROLLOUTS
    for number, start in enumerate(range(0, len(sources), sources_a_file)):
        mine = sources[start : start + sources_a_file]
        cuts = {
            "source": [source for source in mine for _ in REPORTED],
            "fraction": [*REPORTED] * len(mine),
            "rollouts": [int(SHARD_ROLLOUTS * fraction) for fraction in REPORTED] * len(mine),
            "bis": [0.05] * len(mine) * len(REPORTED),
        }
        yield RankedFile(
            DataFile(part_path("rollouts", number), SHARD_ROLLOUTS * len(mine), 10**7, f"{number:064x}"),
            [(source, 0.05, SHARD_ROLLOUTS) for source in mine],
            pa.table(cuts, schema=schemas.CUTOFF_SCORES),
        )


if __name__ == "__main__":
    main()
