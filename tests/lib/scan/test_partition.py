"""The steps of a partition come together whatever its size, in memory that does not grow with it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bisieve import schemas
from bisieve.ranking.sort import constant_column, from_bytes, to_bytes
from bisieve.scan import partition
from bisieve.scan.partition import gathered, parted_by_rollout, partitions

MEGABYTES = 600  # of a Spark worker, all in all

MEASURED = """
import re, sys
from bisieve.scan.group_steps import assemble_unsorted
from bisieve.scan.partition import gathered
from bisieve.scan.batches import ScanOptions

def pieces():
    with open(sys.argv[1], "rb") as file:
        while size := file.read(8):
            yield file.read(int.from_bytes(size, "little"))

options = ScanOptions(0.05)
found = sum(batch.num_rows for table in gathered(pieces()) for batch in assemble_unsorted(table, options))
print(found, int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


def steps(rollouts: int, each: int, longest: int = 0) -> pa.Table:
    """Steps of usable rollouts in random order; the last rollout may be a long one."""
    counts = np.full(rollouts, each)
    counts[-1] = max(each, longest)
    owner = np.repeat(np.arange(rollouts), counts)
    index = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    names = pa.array([f"rollout {number:09}" for number in range(rollouts)])
    shuffled = np.random.default_rng(1).permutation(len(owner))
    rows = len(owner)
    table = pa.table(
        {
            "rollout_id": names.take(pa.array(owner)),
            "step_index": pa.array(index, pa.int32()),
            "source": constant_column("a", rows),
            "image_id": np.ones(rows, np.int64),
            "prompt_id": np.ones(rows, np.int64),
            "question_id": pa.repeat("0" * 32, rows),
            "score": np.ones(rows),
            "mc_correct": pa.nulls(rows, pa.int32()),
            "mc_total": pa.nulls(rows, pa.int32()),
            "shard": constant_column("s3://bucket/a/folder/of/annotations/shard-00000.jsonl", rows),
            "offset": np.cumsum(np.random.default_rng(2).integers(100, 500, rows)),
            "length": np.full(rows, 299),
            "reason": pa.nulls(rows, pa.string()),
        },
        schema=schemas.STEPS,
    )
    return table.take(pa.array(shuffled))


def in_pieces(table: pa.Table, number: int) -> list[bytes]:
    size = -(-table.num_rows // number)
    return [to_bytes(table.slice(start, size).combine_chunks()) for start in range(0, table.num_rows, size)]


@pytest.mark.parametrize("held", [2**40, 20_000])
def test_all_steps_of_a_rollout_come_in_one_table(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "HELD_BYTES", held)
    everything = steps(rollouts=800, each=5, longest=300).combine_chunks().to_batches()
    table = from_bytes(dict(parted_by_rollout(everything, 4))[3])  # what a partition is
    tables = list(gathered(in_pieces(table, 7)))
    assert len(tables) == 1 if held == 2**40 else len(tables) > partition.FILES / 2
    names = [set(pc.unique(some["rollout_id"]).to_pylist()) for some in tables]
    assert sum(map(len, names)) == len(set().union(*names)) == pc.count_distinct(table["rollout_id"]).as_py()
    whole = pa.concat_tables(tables).sort_by([("offset", "ascending")])
    assert whole.to_pydict() == table.sort_by([("offset", "ascending")]).to_pydict()


def test_records_that_name_no_rollout_are_spread_over_all_parts() -> None:
    nameless = steps(rollouts=100, each=10).set_column(0, "rollout_id", pa.nulls(1000, pa.string()))
    rows = dict(parted_by_rollout(nameless.combine_chunks().to_batches(), 4))
    assert sorted(rows) == [0, 1, 2, 3]


def test_compressed_shards_make_more_parts_than_their_bytes() -> None:
    assert partitions(stored=10 * 2**30, stored_compressed=0, at_least=2) == 160
    assert partitions(stored=0, stored_compressed=2**30, at_least=1) == 160
    assert partitions(stored=1000, stored_compressed=0, at_least=3) == 3


@pytest.mark.slow  # the partition is large
def test_a_large_partition_is_assembled_in_bounded_memory(tmp_path: Path) -> None:
    table = steps(rollouts=140_000, each=10, longest=100_000)
    with pa.OSFile(str(tmp_path / "steps"), "wb") as file:
        for piece in in_pieces(table, 100):
            file.write(len(piece).to_bytes(8, "little") + piece)
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "steps")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found, megabytes = map(int, done.stdout.split())
    assert found == 140_000
    assert table.nbytes > 3 * partition.HELD_BYTES
    assert megabytes < MEGABYTES, megabytes
