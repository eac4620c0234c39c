"""The same shards and options give the same index, to the byte, wherever and however it is made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sparks import MANY_TASKS, SMALL_FILES, Driver
from support.index_files import contents

from bisieve.index.reader import open_index

# Each two of layout, ties and scope meet once.
OPTIONS = [
    ("rollouts", "file", "source"),
    ("rollouts", "hash", "global"),
    ("rollouts", "spread", "source"),
    ("steps", "spread", "global"),
    ("steps", "hash", "source"),
    ("steps", "file", "global"),
]


@pytest.fixture
def score_in_small_files(
    score_with_spark: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    for name, value in SMALL_FILES.items():
        monkeypatch.setattr(name, value)
    return score_with_spark


@pytest.mark.parametrize(("layout", "ties", "scope"), OPTIONS)
def test_an_index_does_not_tell_where_it_was_made(
    score_in_small_files: Callable[..., Any],
    on_one_core: Driver,
    on_cluster: Driver,
    corpora: dict[str, Path],
    tmp_path: Path,
    layout: str,
    ties: str,
    scope: str,
) -> None:
    options = {"ties": ties, "scope": scope, "seed": 3}
    score_in_small_files(corpora[layout], tmp_path / "two cores", **options)
    elsewhere = {"one core": (on_one_core, 20_000), "a cluster": (on_cluster, 60_000)}
    for name, (driver, task_bytes) in elsewhere.items():
        constants = {**SMALL_FILES, "bisieve.shards.listing.SMALLEST_TASK": task_bytes}
        assert driver(corpora[layout], tmp_path / name, options=options, constants=constants) is None
        assert contents(tmp_path / name) == contents(tmp_path / "two cores")
    assert len(open_index(str(tmp_path / "two cores")).files) == 4


@pytest.mark.parametrize(
    "mishap",
    [
        "every_task_fails_once_while_it_scans",
        "every_task_fails_once_after_it_wrote",
        "a_slow_task_is_run_twice",
    ],
)
def test_an_index_does_not_tell_that_tasks_were_run_again(
    on_cluster: Driver, unharmed: dict[str, bytes], corpora: dict[str, Path], tmp_path: Path, mishap: str
) -> None:
    marker = tmp_path / "run again"
    harmed = tmp_path / "harmed"
    assert on_cluster(corpora["rollouts"], harmed, mishap, marker=str(marker), constants=MANY_TASKS) is None
    assert marker.exists()
    assert contents(harmed) == unharmed
