"""Most rows in one source, in one block of ties, of one question: in Spark's event log no task holds them."""

import json
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from sparks import Driver

from bisieve.spark.stages import job_group

ROLLOUTS, ROWS_PER_FILE = 12_000, 1_000
FILES = ROLLOUTS // ROWS_PER_FILE
CONSTANTS = {
    "bisieve.index.writer.ROWS_PER_FILE": ROWS_PER_FILE,
    "bisieve.shards.listing.SMALLEST_TASK": 200_000,
}


@pytest.fixture(scope="module")
def skewed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 % of the rollouts in one source, 60 % with one score, 60 % of one question."""
    folder, rng = tmp_path_factory.mktemp("skewed"), random.Random(1)
    for source, share in (("a", 0.05), ("most", 0.9), ("z", 0.05)):
        with open(folder / f"{source}.jsonl", "w") as file:
            for number in range(int(ROLLOUTS * share)):
                scores = [1.0] if rng.random() < 0.6 else [rng.random() for _ in range(3)]
                question = "The same?" if rng.random() < 0.6 else f"{source} {number}?"
                steps = [{"step": "so", "score": score} for score in scores]
                record = {"image": "a.png", "question": question, "steps_with_score": steps}
                file.write(json.dumps(record) + "\n")
    return folder


@pytest.fixture
def moved(events: Path) -> Callable[[], list[list[int]]]:
    """The bytes that each task of the last run took from a shuffle, stage by stage."""

    def read() -> list[list[int]]:
        (log,) = events.iterdir()
        stages: set[int] = set()
        tasks: dict[int, list[int]] = defaultdict(list)
        for line in log.read_text().splitlines():
            event = json.loads(line)
            if event["Event"] == "SparkListenerJobStart":
                if event["Properties"]["spark.jobGroup.id"] == job_group("scan"):
                    stages.clear()  # another run begins
                    tasks.clear()
                stages.update(event["Stage IDs"])
            elif event["Event"] == "SparkListenerTaskEnd" and event["Stage ID"] in stages:
                taken = event["Task Metrics"]["Shuffle Read Metrics"]
                tasks[event["Stage ID"]].append(taken["Remote Bytes Read"] + taken["Local Bytes Read"])
        return [tasks[stage] for stage in sorted(tasks)]

    return read


@pytest.mark.parametrize(
    ("scope", "ties"), [("source", "file"), ("global", "hash"), ("source", "spread"), ("global", "spread")]
)
def test_no_task_takes_more_than_a_few_files_worth_of_rows(
    on_one_core: Driver,
    moved: Callable[[], list[list[int]]],
    skewed: Path,
    tmp_path: Path,
    scope: str,
    ties: str,
) -> None:
    options = {"scope": scope, "ties": ties}
    assert on_one_core(skewed, tmp_path / "index", options=options, constants=CONSTANTS) is None
    rows_bytes = max(sum(stage) for stage in moved())
    moving = [stage for stage in moved() if sum(stage) > rows_bytes / 10]  # the others take counts
    assert len(moving) == 1 + (scope == "global") + (ties == "spread")
    for stage in moving:
        assert len(stage) == FILES
        assert max(stage) <= 3 * rows_bytes / FILES  # rows that tie compress better than others
