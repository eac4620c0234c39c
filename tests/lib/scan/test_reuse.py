"""Steps that are scanned again only where a shard came, changed or went give what a scan of all gives."""

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisieve import schemas
from bisieve.io.storage import FileInfo
from bisieve.ranking.order import REJECTS_ORDER
from bisieve.ranking.sort import constant_column, sorted_indices
from bisieve.records.options import ReadOptions
from bisieve.scan import reuse, scan_step_split
from bisieve.scan.batches import ScanOptions
from bisieve.scan.group_steps import assemble_unsorted
from bisieve.scan.reuse import KeptShards, NamedRollouts, hashed, parted_by_place, read_again, rounds
from bisieve.shards.listing import split_shards

FORMS = ("jsonl", "jsonl", "jsonl.gz", "parquet")  # of the shards s0, s1, …
IDS = (1, "1", "a", "b", "c")
Shards = dict[str, list[Any]]


def step(rollout_id: Any, index: Any, **fields: Any) -> dict[str, Any]:
    """A step; None drops a field."""
    head = {"image": "a.png", "question": "What?", "source": "x"} if index == 0 else {}
    record = {"rollout_id": rollout_id, "step_index": index, "step": "text", "score": 0.5, **head, **fields}
    return {name: value for name, value in record.items() if value is not None}


ODD = st.sampled_from(
    [{"image": "b.png"}, {"source": "y"}, {"score": 2.0}, {"step": " "}, {"question": " "}, {"score": None}]
)
STEP = st.builds(step, st.sampled_from(IDS), st.integers(0, 2))
ODD_STEP = st.builds(
    lambda of, index, odd: step(of, index, **odd), st.sampled_from(IDS), st.integers(0, 2), ODD
)
HOMELESS = st.builds(step, st.sampled_from([None, ""]), st.integers(0, 2))
BROKEN = st.sampled_from([b"{", b'{"rollout_id": "a", "step_index": -1}', b'{"rollout_id": 1}'])
RECORDS = st.lists(st.one_of(STEP, STEP, ODD_STEP, HOMELESS, BROKEN), max_size=3)


@st.composite
def corpora(draw: st.DrawFn) -> tuple[Shards, Shards]:
    """A corpus of rollouts whose steps are scattered over shards, and what became of it."""
    names = [f"s{number}" for number in range(len(FORMS))]
    before: Shards = {name: draw(RECORDS) for name in names[: draw(st.integers(1, len(names)))]}
    for rollout_id in IDS:
        for index in range(draw(st.integers(0, 3))):
            before[draw(st.sampled_from(list(before)))].append(step(rollout_id, index))
    after: Shards = {}
    for name in names:
        records = before.get(name, [])
        became = draw(st.sampled_from(["same", "same", "appended", "cut", "other", "gone"]))
        if became == "same" and name in before:
            after[name] = records
        elif became != "gone":
            left = {"appended": records, "cut": records[1:]}.get(became, [])
            after[name] = [*left, *draw(RECORDS)]
    return before, after


def write(folder: Path, shards: Shards) -> dict[FileInfo, Any]:
    """Writes the shards, those of Parquet without what a typed column cannot hold."""
    for path in folder.iterdir():
        path.unlink()
    found: dict[FileInfo, Any] = {}
    for name, records in shards.items():
        path = folder / f"{name}.{FORMS[int(name[1:])]}"
        lines = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
        data = b"".join(line + b"\n" for line in lines)
        if path.suffix == ".parquet":
            rows = [{**record, "rollout_id": f"{record.get('rollout_id', '')}"}
                    for record in records if isinstance(record, dict)]  # fmt: skip
            columns = dict.fromkeys([*step("", 0), *(key for row in rows for key in row)])
            pq.write_table(
                pa.table({name: [row.get(name) for row in rows] for name in columns}), path, row_group_size=2
            )
        else:
            path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
        found[FileInfo(str(path), path.stat().st_size, data.hex())] = "steps"
    return found


def scan(shards: Sequence[FileInfo], options: ScanOptions) -> pa.Table:
    splits = split_shards(shards, 100)
    batches = (batch for split in splits for batch in scan_step_split(split, options))
    return pa.Table.from_batches(batches, schemas.STEPS)


def assembled(steps: pa.Table, options: ScanOptions) -> pa.Table:
    return pa.Table.from_batches(assemble_unsorted(steps, options), schemas.SCORED)


def in_order(rows: pa.Table) -> list[dict[str, Any]]:
    return list(rows.take(sorted_indices(rows, REJECTS_ORDER)).to_pylist())


def names_in(records: Iterator[Any]) -> set[str]:
    """The rollouts that records name."""
    read = (
        json.loads(record) if isinstance(record, bytes) else record for record in records if record != b"{"
    )
    return {str(record["rollout_id"]) for record in read if record.get("rollout_id", "") != ""}


@pytest.mark.parametrize("source_field", [None, "source"])
@given(corpora())
@settings(max_examples=50)
def test_what_no_shard_touches_and_what_is_assembled_again_are_what_a_scan_of_all_finds(
    source_field: str | None, both: tuple[Shards, Shards]
) -> None:
    options = ScanOptions(0.05, reading=ReadOptions(source_field=source_field))
    with TemporaryDirectory() as folder:
        was = write(Path(folder), both[0])
        older = assembled(scan(list(was), options), options)
        now = write(Path(folder), both[1])
        kept = now.keys() & was.keys()
        new = scan([shard for shard in now if shard not in kept], options)
        named = NamedRollouts.of([hashed(new["rollout_id"])])
        shards = KeptShards.of(was, now, kept)
        pieces = [piece for _, piece in parted_by_place(shards.spans_left(older, named), 3)]
        spans = [span for some in rounds(pieces) for span in some]
        read = pa.Table.from_batches(read_again(spans, options.reading), schemas.STEPS)
        anew = assembled(pa.concat_tables([new, read]), options)
        untouched = older.filter(pa.array(~shards.touched(older, named)))
        assert in_order(pa.concat_tables([untouched, anew])) == in_order(
            assembled(scan(list(now), options), options)
        )
    changed = (both[0].keys() | both[1].keys()) - {Path(shard.url).name.split(".")[0] for shard in kept}
    touched = names_in(record for shards in both for name in changed for record in shards.get(name, []))
    assert set(read["rollout_id"].to_pylist()) <= touched
    assert {shard for shard, _, _ in spans} <= {shard.url for shard in kept}


def test_rollouts_are_named_in_bounded_memory() -> None:
    ids = pa.array([f"rollout {number}" for number in range(20_000)])
    named = NamedRollouts.of([hashed(ids[:9000]), hashed(ids[5000:10_000])])
    has = named.has(pa.chunked_array([ids]))
    assert has[:10_000].all()
    assert 0 < has[10_000:].mean() < 0.05
    assert named.bits.nbytes <= 2**16
    assert not NamedRollouts.of([]).has(pa.chunked_array([ids])).any()


def test_only_shards_of_steps_touch_steps() -> None:
    a, b, s, t = (FileInfo(name, size, "etag") for size, name in enumerate("abst"))
    was: Any = {a: "rollouts", b: "rollouts", s: "steps"}
    assert KeptShards.of(was, {b: "rollouts", s: "steps"}, [b, s]) == KeptShards(["a"], {})
    assert KeptShards.of(was, {**was, t: "steps"}, [a, b, s]) == KeptShards([], {"s": 2})
    assert KeptShards.of(was, {**was, b: "steps"}, [a, s]) == KeptShards(["b"], {"s": 2})
    assert KeptShards.of({**was, t: "steps"}, was, [a, b, s]) == KeptShards(["t"], {"s": 2})


def test_an_id_names_no_rollout_of_the_other_layout() -> None:
    spans = [[{"shard": shard, "offset": 0, "length": 1}] for shard in "as"]
    rows = pa.table(
        {
            "rollout_id": ["1", "1"],
            "shard": ["a", "s"],
            "spans": pa.array(spans, schemas.INDEX.field("spans").type),
        }
    )
    named = NamedRollouts.of([hashed(pa.array(["1"]))])
    assert KeptShards([], {"s": 1}).touched(rows, named).tolist() == [False, True]


def test_spans_are_read_in_rounds_and_those_of_a_compressed_shard_by_one_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reuse, "_ROUND", 3)
    offsets = np.arange(8)[::-1] * 2**30
    for shard, num_readers in (("s.jsonl", 5), ("s.jsonl.gz", 1), ("s.parquet", 1)):
        columns = [constant_column(shard, 8), pa.array(offsets), pa.array(np.ones(8, np.int64))]
        pieces = list(parted_by_place(pa.StructArray.from_arrays(columns, fields=list(schemas.SPAN)), 5))
        assert len(pieces) == num_readers
        found = list(rounds(piece for _, piece in pieces))
        assert all(some == sorted(some) and len(some) <= 5 for some in found)
        assert sorted(offset for some in found for _, offset, _ in some) == sorted(offsets)
