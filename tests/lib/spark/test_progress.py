"""What a scoring run tells while it goes on."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import reference

from bisieve.pipeline.engine import Scanned, reporter
from bisieve.shards import listing as shard_listing
from bisieve.spark.engine import SparkEngine
from bisieve.spark.stages import name_jobs, watched


class Heard:
    """Keeps the events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, event: str, text: str = "", **fields: Any) -> None:
        self.events.append((event, {"text": text, **fields}))

    def __getitem__(self, name: str) -> dict[str, Any]:
        (fields,) = [fields for event, fields in self.events if event == name]
        return fields


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.mark.parametrize("layout", ["rollouts", "steps"])
def test_a_run_tells_what_it_found_and_did(
    score_with_spark: Callable[..., Any],
    write_jsonl: Callable[..., Path],
    rollout: Callable[..., Any],
    heard: Heard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    layout: str,
) -> None:
    monkeypatch.setattr(shard_listing, "SMALLEST_TASK", 1000)  # so that there are several tasks
    records = [rollout(rollout_id=f"r{number}") for number in range(40)]
    if layout == "steps":
        step = {"steps_with_score": None, "step_index": 0, "step": "x", "score": 1}
        records = [{**record, **step} for record in records]
    shard = write_jsonl("a.jsonl", [*records, b"broken"])
    index, _ = score_with_spark(shard, tmp_path / "index", emit=heard, layout=layout)
    size = shard.stat().st_size
    assert [event for event, _ in heard.events if event != "progress"] == [
        "listed", "scanned", "rejected", "ranked", "written", "published",
    ]  # fmt: skip
    assert heard["listed"]["bytes_to_scan"] == size
    assert (heard["scanned"]["rollouts"], heard["scanned"]["bytes"]) == (41, size)
    assert heard["scanned"]["bytes_per_s"] > 0
    assert heard["rejected"]["reasons"] == {"bad_json": 1}
    assert heard["ranked"]["rollouts"] == 40
    assert heard["written"]["files"] == 5
    assert heard["published"]["fingerprint"] == index.fingerprint

    score_with_spark(shard, tmp_path / "index", emit=(again := Heard()), layout=layout)
    assert [event for event, _ in again.events] == ["unchanged"]


def test_what_is_taken_from_the_index_is_not_told_as_scanned(
    score_with_spark: Callable[..., Any], heard: Heard, tmp_path: Path
) -> None:
    reference.write_random_corpus(tmp_path / "corpus", seed=1, sizes={"a": 20, "b": 30})
    score_with_spark(tmp_path / "corpus", tmp_path / "index")
    (tmp_path / "corpus/b.jsonl").write_bytes((tmp_path / "corpus/a.jsonl").read_bytes())
    score_with_spark(tmp_path / "corpus", tmp_path / "index", emit=heard)
    assert (heard["listed"]["to_scan"], heard["scanned"]["rollouts"], heard["scanned"]["kept"]) == (1, 20, 20)
    assert heard["scanned"]["text"].endswith("; reused 20 rollouts of the current index")
    assert heard["ranked"]["rollouts"] == 40


def test_progress_tells_the_stage_and_how_many_tasks_have_ended(spark: Any, heard: Heard) -> None:
    scanned = Scanned.on(SparkEngine(spark))
    with watched(spark, reporter(heard, scanned), every=0.05):
        name_jobs(spark, "scan")

        def work(number: int) -> int:
            time.sleep(0.2)
            scanned.bytes.add(1_000_000)
            scanned.records.add(10)
            return number

        assert spark.parallelize(range(8), 8).map(work).sum() == 28
        name_jobs(spark, "write")
        spark.parallelize(range(6), 6).map(lambda number: time.sleep(0.3)).count()
    scan = [fields for _, fields in heard.events if fields["stage"] == "scan"]
    done = [fields["tasks_done"] for fields in scan]
    assert done == sorted(done)
    assert done[0] < done[-1] <= 8 == scan[-1]["tasks"]
    assert (scanned.bytes.value, scanned.records.value) == (8_000_000, 80)
    assert 0 < scan[-1]["bytes"] <= 8_000_000
    assert "MB/s" in scan[-1]["text"]
    written = [fields for _, fields in heard.events if fields["stage"] == "write"]
    assert written[-1]["text"] == f"write: {written[-1]['tasks_done']} of 6 tasks"
    assert "bytes" not in written[-1]


def test_a_watch_ends_with_its_block_also_when_it_fails_and_when_spark_is_gone(heard: Heard) -> None:
    class Gone:
        def getActiveJobsIds(self) -> Iterator[int]:  # noqa: N802 - Spark's name
            raise ConnectionError("no more")

    class Context:
        master = "local"

        def statusTracker(self) -> Gone:  # noqa: N802 - Spark's name
            return Gone()

    def interrupted() -> None:
        with watched(Context(), lambda *at_work: heard("progress"), every=0.01):  # type: ignore[arg-type]
            time.sleep(0.1)
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - began < 2
    assert heard.events == []
