"""What the driver does with a listing of very many shards, in a store that is simulated.

``python -m bench.listing --size 1`` takes 1,000,000 shards; the last line is JSON: seconds a part, sizes.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
from fsspec.spec import AbstractFileSystem

from bisieve import schema
from bisieve.manifest import DataFile, Manifest, Parameters, SourceTotals, fingerprint
from bisieve.parts import write_part
from bisieve.shards import list_shards, plan_tasks
from bisieve.totals import Totals, add_up

SHARDS = 1_000_000
SHARD_BYTES = 3_000_000
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
    parts = [Totals(shards={split.shard: [1000, 0] for split in task}) for task in tasks]
    totals = add_up(parts)
    lap("totals_s")
    with tempfile.TemporaryDirectory() as index:
        columns = {name: [getattr(shard, name) for shard in shards] for name in ("url", "size", "etag")}
        yields = [totals.shards[shard.url] for shard in shards]
        columns["layout"] = ["rollouts"] * len(shards)
        columns["rollouts"], columns["rejected"] = ([pair[place] for pair in yields] for place in (0, 1))
        file = write_part(index, "shards.parquet", pa.table(columns), schema.SHARDS)
        lap("shards_parquet_s")
        said["shards_parquet_mb"] = Path(index, file.path).stat().st_size / 1e6
    set(list_shards([_URL]))  # the look whether a shard has changed meanwhile
    lap("list_again_s")
    said["manifest_kb"] = len(_manifest(parameters, version, file, len(shards)).to_json()) / 1e3
    said["tasks"] = len(tasks)
    return said


def _manifest(parameters: Parameters, version: str, shards: DataFile, num_shards: int) -> Manifest:
    sources = [SourceTotals(f"source-{n:02d}", 10**7, 5 * 10**7, 0, 10**7, 0, 10**6, {}) for n in range(38)]
    return Manifest(
        fingerprint=version,
        parameters=parameters,
        inputs=[_URL],
        shards=shards,
        num_shards=num_shards,
        shard_bytes=num_shards * SHARD_BYTES,
        sources=sources,
        files=[],
        rejects=[],
        examples={},
        software={},
    )


if __name__ == "__main__":
    main()
