"""A shard whose bytes cannot be decoded is named, and is no store that fails."""

import gzip
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from support import forms

from bisieve.errors import CorpusError
from bisieve.records.options import ReadOptions
from bisieve.shards.jsonl import read_blocks
from bisieve.shards.listing import Split
from bisieve.shards.parquet import read_split

LINES = b"".join(b"line %05d\n" % number for number in range(20_000))
RECORD = {"image": "a.png", "question": "What?", "steps_with_score": [{"step": "one", "score": 1.0}]}


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("harm", ["cut off", "not compressed"])
def test_a_compressed_shard(suffix: str, harm: str, tmp_path: Path) -> None:
    data = gzip.compress(LINES) if suffix == ".gz" else pa.Codec("zstd").compress(LINES, asbytes=True)
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(data[:-10] if harm == "cut off" else LINES)
    with pytest.raises(
        CorpusError, match=rf"a whole (gzip|zstd) file at .*{path.name}; found .*; recreate it"
    ):
        list(read_blocks(str(path), 0, sys.maxsize))


def test_the_pages_of_a_parquet_shard(tmp_path: Path) -> None:
    path = forms.write_form(
        tmp_path / "a", "nested.parquet", [{**RECORD, "question": f"{n}?"} for n in range(999)]
    )
    data = bytearray(path.read_bytes())
    data[4:2000] = bytes(1996)
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=r"a Parquet file at .*; found .*; recreate it"):
        list(read_split(Split(str(path), 0, sys.maxsize), "rollouts", ReadOptions()))
