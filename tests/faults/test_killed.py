"""Processes that are killed in the middle: the index is the right one, or the old one."""

from pathlib import Path

import pytest
from sparks import MANY_TASKS, Driver, StartDriver
from support.index_files import contents

from bisieve.index.reader import open_index
from bisieve.index.versions import clean


@pytest.mark.parametrize("mishap", ["an_executor_dies_while_it_scans", "an_executor_dies_while_it_writes"])
def test_an_executor_that_is_killed_leaves_no_trace_in_the_index(
    on_cluster: Driver, unharmed: dict[str, bytes], corpora: dict[str, Path], tmp_path: Path, mishap: str
) -> None:
    marker = tmp_path / "killed"
    harmed = tmp_path / "harmed"
    assert on_cluster(corpora["rollouts"], harmed, mishap, marker=str(marker), constants=MANY_TASKS) is None
    assert marker.exists()
    found = contents(harmed)
    assert unharmed.items() <= found.items()
    left = found.keys() - unharmed.keys()
    assert len(left) == (1 if mishap.endswith("writes") else 0)
    assert {file.url.removeprefix(f"file://{harmed}/") for file in clean(open_index(str(harmed)), 0)} == left
    assert contents(harmed) == unharmed


def test_a_driver_that_is_killed_before_it_publishes_leaves_the_old_index_and_the_next_one_publishes(
    start_driver: StartDriver, on_one_core: Driver, corpora: dict[str, Path], tmp_path: Path
) -> None:
    index, fresh, options = tmp_path / "index", tmp_path / "fresh", {"alpha": 0.2}
    assert on_one_core(corpora["rollouts"], index) is None
    before = contents(index)
    with pytest.raises(EOFError):
        start_driver("local[1]")(
            corpora["rollouts"], index, "the_driver_dies_before_it_publishes", options=options
        )
    left = contents(index)
    assert len(left) > len(before)
    assert before.items() <= left.items()
    assert on_one_core(corpora["rollouts"], index, options=options) is None
    assert on_one_core(corpora["rollouts"], fresh, options=options) is None
    assert contents(fresh).items() <= contents(index).items()
    assert open_index(str(index)).fingerprint == open_index(str(fresh)).fingerprint
