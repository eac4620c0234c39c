"""A byte order mark costs no line and no record, in any text format: in scan, reader and export alike."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support import forms
from support.forms import COMPRESS

from bisieve.records.decode import BYTE_ORDER_MARK
from bisieve.records.options import KnownShards, ReadOptions
from bisieve.scan import scan_rollout_split, scan_step_split
from bisieve.scan.batches import ScanOptions
from bisieve.scan.group_steps import assemble_unsorted
from bisieve.shards.fetch import fetch_rollouts
from bisieve.shards.jsonl import read_blocks
from bisieve.shards.layout import find_layouts
from bisieve.shards.listing import list_shards, split_shards
from bisieve.tools.plain_records import plain_lines

OPTIONS = ScanOptions(0.05)


def scan(folder: Path, layout: str) -> pa.Table:
    splits = split_shards(list_shards([str(folder)]), 10**9)
    if layout == "rollouts":
        return pa.Table.from_batches(
            [batch for split in splits for batch in scan_rollout_split(split, OPTIONS)]
        )
    steps = pa.Table.from_batches([batch for split in splits for batch in scan_step_split(split, OPTIONS)])
    return pa.Table.from_batches(list(assemble_unsorted(steps, OPTIONS)))


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("layout", ["rollouts", "steps"])
@pytest.mark.parametrize("place", ["at the start", "where files were joined", "in a member of its own"])
def test_no_record_is_lost(
    rollout: Callable[..., dict[str, Any]], tmp_path: Path, suffix: str, layout: str, place: str
) -> None:
    records = [rollout([1.0, 0.5], rollout_id="a"), rollout([0.0, 1.0], rollout_id="b")]
    one, two = (
        forms.as_lines(forms.as_steps(record) if layout == "steps" else [record]) for record in records
    )
    one = BYTE_ORDER_MARK + one
    if place != "at the start":
        two = BYTE_ORDER_MARK + two
    compress = COMPRESS[suffix]
    data = compress(one) + compress(two) if place == "in a member of its own" else compress(one + two)
    (tmp_path / f"s.jsonl{suffix}").write_bytes(data)

    (found,) = find_layouts(list_shards([str(tmp_path)]), ReadOptions()).values()
    assert found == layout
    rows = scan(tmp_path, layout).sort_by("rollout_id")
    assert rows["reason"].to_pylist() == [None, None]
    assert rows["bis"].to_pylist() == pytest.approx([0.05 * 0.75, 0.25 + 0.05])
    shards = KnownShards(ReadOptions(), {f"file://{tmp_path}/s.jsonl{suffix}": found})
    assert [r.scores for r in fetch_rollouts(rows, shards)] == [(1.0, 0.5), (0.0, 1.0)]
    assert b"\n".join([*plain_lines(rows, shards), b""]) == (one + two).replace(BYTE_ORDER_MARK, b"")


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_byte_order_mark_belongs_to_no_line_and_moves_no_place(tmp_path: Path, suffix: str) -> None:
    text = BYTE_ORDER_MARK + b'{"a": 1}\n{"b": 2}\n'
    (tmp_path / f"a.jsonl{suffix}").write_bytes(COMPRESS[suffix](text))
    (block,) = read_blocks(str(tmp_path / f"a.jsonl{suffix}"), 0, len(text))
    assert (block.offset, block.data) == (3, text[3:-1])


@pytest.mark.parametrize("split", [1, 2, 3, 4, 7])
def test_of_a_file_with_a_byte_order_mark_each_line_belongs_to_one_range(tmp_path: Path, split: int) -> None:
    text = BYTE_ORDER_MARK + b"one\ntwo\n"
    (tmp_path / "a.jsonl").write_bytes(text)
    found = [
        (block.offset, line)
        for start in range(0, len(text), split)
        for block in read_blocks(str(tmp_path / "a.jsonl"), start, min(start + split, len(text)), 64)
        for line in block.data.split(b"\n")
    ]
    assert [line for _, line in found] == [b"one", b"two"]
    assert found[0][0] == 3
