"""Compressed shards: scored like plain ones, exported, and refused where order is random."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import reference

from bisieve.cli.main import main
from bisieve.errors import CorpusError, IndexUnusableError
from bisieve.index.reader import open_index
from bisieve.records.decode import BYTE_ORDER_MARK
from bisieve.tools.report import score_report
from ray_train.config import TrainConfig
from ray_train.training.plan import chosen_selection

SIZES = {"a": 70, "b": 9}


def in_two_members(data: bytes, suffix: str) -> bytes:
    """Compressed as tools do that append."""
    parts = data[: len(data) // 2], data[len(data) // 2 :]
    if suffix == ".gz":
        return b"".join(map(gzip.compress, parts))
    if suffix in (".bz2", ".xz"):
        return b"".join(map(bz2.compress if suffix == ".bz2" else lzma.compress, parts))
    return b"".join(pa.Codec("zstd").compress(part, asbytes=True) for part in parts)


@pytest.fixture(params=[".gz", ".zst", ".bz2", ".xz"])
def compressed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    reference.write_random_corpus(tmp_path / "plain", seed=9, sizes=SIZES)
    folder = tmp_path / "compressed"
    folder.mkdir()
    for path in (tmp_path / "plain").iterdir():
        text = BYTE_ORDER_MARK * (path.stem == "a") + path.read_bytes()
        (folder / f"{path.name}{request.param}").write_bytes(in_two_members(text, request.param))
    return folder


def test_a_compressed_corpus_is_ranked_as_the_plain_one(
    score: Callable[..., Any], compressed: Path, tmp_path: Path
) -> None:
    score(tmp_path / "plain", tmp_path / "one")
    score(compressed, tmp_path / "two")
    one, two = (
        pq.read_table(tmp_path / name / open_index(str(tmp_path / name)).files[0].path)
        for name in ("one", "two")
    )
    assert one.drop_columns(["spans"]).equals(two.drop_columns(["spans"]))
    ask = ["export", "--index", str(tmp_path / "two"), "--fraction", "0.3", "--output", str(tmp_path / "out")]
    assert main(ask) == 0
    assert (tmp_path / "out").read_bytes() == reference.select(tmp_path / "plain", 0.3, 0.05)


def test_an_exported_selection_is_a_corpus_of_the_same_records(
    score: Callable[..., Any], compressed: Path, tmp_path: Path
) -> None:
    score(compressed, tmp_path / "index")
    ask = ["export", "--index", str(tmp_path / "index"), "--fraction", "0.3", "--format", "records"]
    assert main([*ask, "--output", str(tmp_path / "cut")]) == 0
    plain = {path.name: path.read_bytes().split(b"\n") for path in (tmp_path / "plain").iterdir()}
    for name, lines in plain.items():
        kept = (tmp_path / "cut" / name).read_bytes().split(b"\n")
        assert set(kept) <= set(lines)
        assert [line for line in lines if line in kept] == kept, "in file order"
    again, _ = score(tmp_path / "cut", tmp_path / "again")
    assert again.rollouts_by_source == {"a": 21, "b": 2}


def test_a_compressed_shard_that_ends_too_early_is_an_error(
    score: Callable[..., Any], compressed: Path, tmp_path: Path
) -> None:
    shard = next(compressed.glob("a.*"))
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(
        CorpusError, match=rf"a whole (gzip|zstd|bz2|xz) file at .*{shard.name}.*; recreate it"
    ):
        score(compressed, tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_training_refuses_compressed_shards_and_names_the_way_around(
    score: Callable[..., Any], compressed: Path, tmp_path: Path
) -> None:
    score(compressed, tmp_path / "index")
    config = TrainConfig(index=str(tmp_path / "index"), image_root="i", backbone="b", output="o")
    with pytest.raises(IndexUnusableError, match=r"2 compressed or Parquet ones, such as .*--format records"):
        chosen_selection(config)


def test_files_that_may_be_data_and_are_not_read_are_said_and_refused_where_asked(
    score: Callable[..., Any], tmp_path: Path
) -> None:
    reference.write_random_corpus(tmp_path / "corpus", seed=9, sizes={"a": 9})
    names = [f"part-0000{number}" for number in range(7)]
    for name in names:
        (tmp_path / "corpus" / name).write_bytes(b"{}")
    said: dict[str, Any] = {}
    index, _ = score(
        tmp_path / "corpus", tmp_path / "index", lambda kind, *_, **about: said.update({kind: about})
    )
    urls = [f"file://{tmp_path}/corpus/{name}" for name in names]
    assert said["left_out"] == {"files": 7, "names": urls}
    assert (index.manifest.files_left_out, index.manifest.left_out) == (7, urls)
    assert "skipped 7 files of an unsupported kind (first: file://" in score_report(index, "index")
    with pytest.raises(
        CorpusError, match=f"found 7 files of an unsupported kind: {', '.join(urls[:5])}, …; rename"
    ):
        score(tmp_path / "corpus", tmp_path / "other", strict=True)
    assert not (tmp_path / "other").exists()
