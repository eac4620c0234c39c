"""A job whose store refuses, stalls, breaks off, forgets to answer: the right index, or a line, the old."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sparks import MANY_TASKS, Driver
from support.faulty_proxy import FAULTS, FaultyProxy

from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection
from bisieve.io.storage import read_bytes, stored_files, write_bytes
from bisieve.io.urls import join


@pytest.fixture
def bad(proxy: FaultyProxy) -> Iterator[FaultyProxy]:
    proxy.calm()
    yield proxy
    proxy.calm()


@pytest.fixture
def place(s3: str, corpora: dict[str, Path], tmp_path: Path) -> str:
    """A folder on S3 with the rollouts in ``annotations``."""
    for path in corpora["rollouts"].iterdir():
        write_bytes(f"{s3}/{tmp_path.name}/annotations/{path.name}", path.read_bytes())
    return f"{s3}/{tmp_path.name}"


def contents(index: str) -> dict[str, bytes]:
    return {file.url.removeprefix(index): read_bytes(file.url) for file in stored_files(index)}


def test_faults_at_random_leave_no_trace_in_the_index(
    bad: FaultyProxy, on_one_core: Driver, place: str
) -> None:
    corpus, unharmed, harmed = (join(place, name) for name in ("annotations", "unharmed", "harmed"))
    assert on_one_core(corpus, unharmed, constants=MANY_TASKS) is None
    bad.harm(0.3)
    assert on_one_core(corpus, harmed, constants=MANY_TASKS) is None
    assert set(bad.faults()) == set(FAULTS)
    bad.calm()
    assert contents(harmed) == contents(unharmed)


@pytest.mark.parametrize("refused", ["/part-000001.parquet", "/index/manifest.json"])
def test_a_store_that_refuses_to_the_end_is_one_line_and_leaves_the_old_index(
    bad: FaultyProxy, on_one_core: Driver, place: str, refused: str
) -> None:
    corpus, index = join(place, "annotations"), join(place, "index")
    assert on_one_core(corpus, index) is None
    before = open_index(index)
    bad.harm(1, ["503"], only=lambda method, path: method == "PUT" and refused in path)
    error = on_one_core(corpus, index, options={"alpha": 0.2})
    assert error is not None
    assert error.startswith("expected a response from the store of s3://")
    assert refused.split("/")[-1] in error
    assert "\n" not in error
    assert open_index(index) == before
    assert read_selection(before, 1.0).rows.num_rows == before.manifest.rollouts


def test_a_shard_that_is_replaced_while_it_is_read_fails_and_leaves_the_old_index(
    bad: FaultyProxy, on_one_core: Driver, place: str, tmp_path: Path
) -> None:
    corpus, index = join(place, "annotations"), join(place, "index")
    shard = join(corpus, "big.jsonl")
    assert on_one_core(join(corpus, "ä.jsonl"), index) is None
    before = open_index(index)
    mishap, marker = "a_shard_is_replaced_while_it_is_read", f"{shard} {tmp_path / 'replaced'}"
    error = on_one_core(corpus, index, mishap, marker=marker, constants=MANY_TASKS)
    assert error is not None
    assert (
        error.startswith("expected shards that do not change during the run")
        or "unchanged while it is read" in error
    )
    assert shard in error
    assert open_index(index) == before
