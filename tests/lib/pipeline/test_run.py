import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support import reference
from support.index_files import contents

from bisieve.errors import CorpusError
from bisieve.index import writer
from bisieve.index.reader import check_shards_unchanged, open_index
from bisieve.index.selection import read_selection
from bisieve.io.storage import list_files, read_bytes, write_bytes
from bisieve.pipeline import run as job
from bisieve.pipeline.ranked_files import write_few_rejects
from bisieve.ranking.order import REJECTS_ORDER
from bisieve.ranking.sort import sorted_run
from bisieve.scoring import balanced_information_score
from bisieve.shards import listing as shard_listing
from bisieve.shards.fetch import fetch_rollouts
from bisieve.tools.export import export_mprm_jsonl

SIZES = {"big": 300, "a-small": 7, "a_small": 1, "ä": 40}


def rows_of(index: Any) -> list[dict[str, Any]]:
    files = open_index(str(index)).files
    return [row for file in files for row in pq.read_table(f"{index}/{file.path}").to_pylist()]


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.0, 1 / 3])
def test_an_export_equals_the_papers_procedure_byte_for_byte(
    score: Callable[..., Any], tmp_path: Path, alpha: float
) -> None:
    reference.write_random_corpus(tmp_path / "corpus", seed=round(alpha * 100), sizes=SIZES)
    score(tmp_path / "corpus", tmp_path / "index", alpha=alpha)
    for fraction in (0.01, 0.1, 0.25, 0.29, 1.0):
        selection = read_selection(open_index(str(tmp_path / "index")), fraction)
        export_mprm_jsonl(selection, str(tmp_path / "out.jsonl"))
        expected = reference.select(tmp_path / "corpus", fraction, alpha)
        assert (tmp_path / "out.jsonl").read_bytes() == expected


def test_the_index_is_ranked_inside_each_source(score: Callable[..., Any], tmp_path: Path) -> None:
    reference.write_random_corpus(tmp_path / "corpus", seed=1, sizes=SIZES)
    score(tmp_path / "corpus", tmp_path / "index")
    rows = rows_of(tmp_path / "index")
    assert [(row["source"], row["rank"]) for row in rows] == [
        (source, rank + 1) for source in sorted(SIZES) for rank in range(SIZES[source])
    ]
    for row in rows:
        assert row["bis"] == balanced_information_score(row["scores"], 0.05)
        assert row["num_steps"] == len(row["scores"]) == len(row["mc_total"])
    for one, two in pairwise(rows):
        if one["source"] == two["source"]:
            assert (-one["bis"], one["spans"][0]["offset"]) < (-two["bis"], two["spans"][0]["offset"])


def test_global_scope_ranks_over_all_sources(score: Callable[..., Any], tmp_path: Path) -> None:
    reference.write_random_corpus(tmp_path / "corpus", seed=2, sizes=SIZES)
    score(tmp_path / "corpus", tmp_path / "index", scope="global")
    rows = rows_of(tmp_path / "index")
    assert rows == sorted(rows, key=lambda row: (row["source"], row["rank"]))
    best_first = sorted(rows, key=lambda row: row["rank"])
    assert [row["rank"] for row in best_first] == list(range(1, sum(SIZES.values()) + 1))
    places = [(-row["bis"], row["spans"][0]["shard"], row["spans"][0]["offset"]) for row in best_first]
    assert places == sorted(places)
    selection = read_selection(open_index(str(tmp_path / "index")), 0.1)
    assert sorted(selection.rows["rank"].to_pylist()) == list(range(1, int(sum(SIZES.values()) * 0.1) + 1))


def test_ties_spread_puts_first_rollouts_of_questions_before_second_ones(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    # Question 0 has a better rollout above the ties, so both its tied ones come after every first one.
    questions = [0, 0, 1, 1, 0, 2]
    scores = [[1.0], [1.0], [1.0], [1.0], [1.0, 0.0], [1.0]]
    shard = write_jsonl(
        "a.jsonl", [rollout(s, question=f"Q{q}") for s, q in zip(scores, questions, strict=True)]
    )
    score(shard, tmp_path / "index", ties="spread")
    offsets = sorted(row["spans"][0]["offset"] for row in rows_of(tmp_path / "index"))
    order = [offsets.index(row["spans"][0]["offset"]) for row in rows_of(tmp_path / "index")]
    assert order == [4, 2, 5, 0, 3, 1]


def test_ties_hash_depends_on_content_and_seed_and_not_on_place(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    records = [rollout([1.0], question=f"Q{number}") for number in range(50)]

    def order(name: str, seed: int) -> list[str]:
        random.Random(name).shuffle(records)
        score(write_jsonl(f"{name}/a.jsonl", records), tmp_path / name, ties="hash", seed=seed)
        return [row["rollout_id"] for row in rows_of(tmp_path / name)]

    first = order("one", 1)
    assert order("two", 1) == first
    assert order("three", 2) != first


@pytest.mark.parametrize(
    "options", [{}, {"scope": "global"}, {"ties": "spread"}, {"ties": "hash", "scope": "global"}], ids=str
)
def test_the_same_corpus_gives_the_same_bytes_whatever_the_splits_and_partitions(
    score: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str]
) -> None:
    reference.write_random_corpus(tmp_path / "corpus", seed=3, sizes=SIZES)
    monkeypatch.setattr(writer, "ROWS_PER_FILE", 100)
    monkeypatch.setattr(writer, "ROWS_PER_GROUP", 30)
    score(tmp_path / "corpus", tmp_path / "one", **options)
    monkeypatch.setattr(shard_listing, "SMALLEST_TASK", 20_000)
    monkeypatch.setattr(shard_listing, "OPENING", 0)
    score(tmp_path / "corpus", tmp_path / "two", **options)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    files = open_index(str(tmp_path / "one")).files
    assert [(Path(file.path).name, file.rows) for file in files] == [
        (f"part-{number:06}.parquet", min(100, sum(SIZES.values()) - 100 * number)) for number in range(4)
    ]


@pytest.mark.parametrize(
    "options", [{}, {"alpha": 0.3, "scope": "global"}], ids=["as before", "ranked otherwise"]
)
def test_a_rerun_scans_only_what_is_new_or_changed_and_equals_a_fresh_run(
    score: Callable[..., Any],
    write_jsonl: Callable[..., Path],
    rollout: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
) -> None:
    for name in ("changed", "gone", "kept"):
        records = [rollout([rank / 30, 1.0]) for rank in range(30)]
        write_jsonl(f"corpus/{name}.jsonl", [*records, rollout(image=None), b"broken"])
    score(tmp_path / "corpus", tmp_path / "index")
    write_jsonl("corpus/changed.jsonl", [rollout([0.5]), b"{}"])
    write_jsonl("corpus/new.jsonl", [rollout([0.25, 0.0])])
    (tmp_path / "corpus/gone.jsonl").unlink()
    scanned = []
    scan = job.scan_corpus
    monkeypatch.setattr(job, "scan_corpus", lambda *args: (scanned.append(args[1]), scan(*args))[1])
    score(tmp_path / "corpus", tmp_path / "index", **options)
    (tasks,) = [tasks["rollouts"] for tasks in scanned]
    assert [Path(split.shard).stem for task in tasks for split in task] == ["changed", "new"]
    score(tmp_path / "corpus", tmp_path / "fresh", **options)
    fresh = contents(tmp_path / "fresh")
    assert fresh.items() <= contents(tmp_path / "index").items()


def test_a_rerun_with_nothing_changed_writes_nothing(score: Callable[..., Any], tmp_path: Path) -> None:
    reference.write_random_corpus(tmp_path / "corpus", seed=4, sizes={"a": 5})
    assert score(tmp_path / "corpus", tmp_path / "index")[1]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "index").rglob("*")}
    assert not score(tmp_path / "corpus", tmp_path / "index")[1]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "index").rglob("*")} == before
    assert score(tmp_path / "corpus", tmp_path / "index", alpha=0.2)[1]


def test_steps_layout_gives_the_ranks_of_the_rollouts_layout(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    rng = random.Random(5)
    whole = [
        rollout([rng.choice([0, 0.5, 1]) for _ in range(rng.randint(1, 6))], rollout_id=f"r{number:03}")
        for number in range(60)
    ]
    steps = [
        {"rollout_id": record["rollout_id"], "step_index": index, **step}
        | ({"image": record["image"], "question": record["question"]} if index == 0 else {})
        | {"set": "all"}
        for record in whole
        for index, step in enumerate(record["steps_with_score"])
    ]
    rng.shuffle(steps)
    for name, part in (("x", steps[:50]), ("y", steps[50:])):
        write_jsonl(f"steps/{name}.jsonl", part)
    score(write_jsonl("rollouts/all.jsonl", whole), tmp_path / "one")
    score(tmp_path / "steps", tmp_path / "two", source_field="set")
    columns = ("rollout_id", "bis", "scores", "mc_correct", "question_id")
    one, two = ({row["rollout_id"]: row for row in rows_of(tmp_path / name)} for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, row in one.items():
        assert all(row[column] == two[name][column] for column in columns)
    selection = read_selection(open_index(str(tmp_path / "two")), 1.0)
    fetched = {rollout.rollout_id: rollout for rollout in fetch_rollouts(selection.rows, selection.shards)}
    first = fetched["r000"]
    assert first.steps == tuple(step["step"] for step in whole[0]["steps_with_score"])
    assert first.images == ("a.png",)


def test_rejects_are_counted_by_reason_and_written_with_their_place(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    lines = [b"broken", b"", rollout(), rollout(image=None), rollout(["x"]), rollout(["y"])]
    shard = write_jsonl("a.jsonl", lines)
    made, _ = score(shard, tmp_path / "index")
    assert made.manifest.rejected == {"bad_json": 1, "bad_score": 2, "no_image": 1}
    (file,) = made.rejects
    rejects = pq.read_table(tmp_path / "index" / file.path).to_pylist()
    assert "rejects/" in file.path
    assert [(row["source"], row["reason"]) for row in rejects] == [
        ("a", "bad_json"),
        ("a", "no_image"),
        ("a", "bad_score"),
        ("a", "bad_score"),
    ]
    data = shard.read_bytes()
    for row in rejects:
        assert Path(row["shard"].removeprefix("file://")) == shard
        assert data[row["offset"] : row["offset"] + row["length"] + 1].endswith(b"\n")
    assert data[rejects[0]["offset"] :].startswith(b"broken")
    shards = pq.read_table(tmp_path / "index" / made.manifest.shards.path).to_pylist()
    assert [(row["rollouts"], row["rejected"]) for row in shards] == [(1, 4)]


def test_many_rejects_are_written_as_few_are(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    shard = write_jsonl("a.jsonl", [rollout(), *[b"broken"] * 9000])
    with monkeypatch.context() as patch:
        patch.setattr(
            "bisieve.pipeline.ranked_files.write_few_rejects", None
        )  # they are too many for the driver
        made, _ = score(shard, tmp_path / "index")
    assert [file.rows for file in made.rejects] == [9000]
    offsets = pq.read_table(tmp_path / "index" / made.rejects[0].path)["offset"].to_pylist()
    assert offsets == sorted(set(offsets))
    rows = pq.read_table(tmp_path / "index" / made.rejects[0].path)
    few = write_few_rejects([sorted_run((0,), rows, REJECTS_ORDER)[0]], str(tmp_path), "few")
    assert few[0].sha256 == made.rejects[0].sha256


def test_the_index_counts_what_each_source_holds(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    scores = [[1.0, 1.0], [1.0], [1.0], [0.0], [1.0, 0.0], [0.5]]
    made, _ = score(write_jsonl("a.jsonl", [rollout(s) for s in scores]), tmp_path / "index")
    (totals,) = made.sources.to_pylist()
    assert (totals["rollouts"], totals["steps"]) == (6, 8)
    assert (totals["mixed"], totals["all_positive"], totals["all_negative"]) == (1, 4, 1)
    assert totals["tie_block"] == 4  # three times all ones, once all zeros: each scores alpha


def test_sources_can_come_from_a_field(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    records = [rollout(set="x"), rollout(set="y"), rollout(set="x"), rollout()]
    made, _ = score(write_jsonl("a.jsonl", records), tmp_path / "index", source_field="set")
    assert made.rollouts_by_source == {"a": 0, "x": 2, "y": 1}
    assert made.manifest.rejected == {"no_source": 1}


def test_shards_of_partitions_make_one_source_each_where_asked_and_a_warning_where_not(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    for name in ("alg", "geo"):
        write_jsonl(f"in/source={name}/part-0.jsonl", [rollout(rollout_id=name)])
    said: dict[str, str] = {}

    def emit(kind: str, text: str = "", **_: Any) -> None:
        said[kind] = text

    index = tmp_path / "in/index"  # inside the input
    made, _ = score(tmp_path / "in", index, emit)
    assert made.rollouts_by_source == {"part-0": 2}
    assert "part-0 are in several folders" in said["merged"]
    assert "--source-field NAME" in said["merged"]
    said.clear()
    made, _ = score(tmp_path / "in", index, emit, source_field="source")
    assert made.rollouts_by_source == {"alg": 1, "geo": 1}
    assert "merged" not in said
    write_jsonl("in/source=new/part-0.jsonl", [rollout(rollout_id="new")])
    made, _ = score(tmp_path / "in", index, emit, source_field="source")
    assert made.rollouts_by_source == {"alg": 1, "geo": 1, "new": 1}


def test_a_shard_that_changes_while_it_is_read_fails_and_leaves_the_old_index(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    shard = write_jsonl("a.jsonl", [rollout()])
    score(shard, tmp_path / "index")
    before = (tmp_path / "index/manifest.json").read_bytes()
    write_jsonl("a.jsonl", [rollout(), rollout()])
    with pytest.MonkeyPatch.context() as patch:
        write = job.write_ranked
        patch.setattr(job, "write_ranked", lambda *args: (write(*args), shard.write_bytes(b"{}\n"))[0])
        with pytest.raises(CorpusError, match=r"1 changed, such as file://.*a\.jsonl"):
            score(shard, tmp_path / "index")
    assert (tmp_path / "index/manifest.json").read_bytes() == before


def test_a_shard_that_comes_while_others_are_read_is_the_next_runs(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    write_jsonl("corpus/a.jsonl", [rollout()])
    with pytest.MonkeyPatch.context() as patch:
        write = job.write_ranked
        patch.setattr(
            job, "write_ranked", lambda *args: (write(*args), write_jsonl("corpus/b.jsonl", [rollout()]))[0]
        )
        assert score(tmp_path / "corpus", tmp_path / "index")[0].manifest.rollouts == 1
    assert score(tmp_path / "corpus", tmp_path / "index")[0].manifest.rollouts == 2


def test_a_corpus_on_s3_is_scored_and_fetched_there(
    score: Callable[..., Any], s3: str, tmp_path: Path
) -> None:
    reference.write_random_corpus(tmp_path / "corpus", seed=6, sizes=SIZES)
    for path in (tmp_path / "corpus").iterdir():
        write_bytes(f"{s3}/job/corpus/{path.name}", path.read_bytes())
    score(f"{s3}/job/corpus", f"{s3}/job/index")
    index = open_index(f"{s3}/job/index")
    check_shards_unchanged(index)
    selection = read_selection(index, 0.25)
    assert all(
        span["shard"].startswith("s3://") for row in selection.rows["spans"].to_pylist() for span in row
    )
    export_mprm_jsonl(selection, f"{s3}/job/out.jsonl")
    assert read_bytes(f"{s3}/job/out.jsonl") == reference.select(tmp_path / "corpus", 0.25, 0.05)
    names = [file.url.removeprefix(f"{s3}/job/index/") for file in list_files(f"{s3}/job/index")]
    index_paths = open_index(f"{s3}/job/index").paths
    assert sorted(names) == sorted(["manifest.json", *index_paths])


def test_an_index_that_lost_a_file_is_scored_again(
    score: Callable[..., Any], indexed: Path, tmp_path: Path
) -> None:
    before = contents(indexed)
    for lost in ("files.parquet", "rollouts/part-000000.parquet"):
        next((indexed / "versions").glob(f"*/{lost}")).unlink()
        assert score(tmp_path / "indexed.jsonl", indexed)[1]
        assert contents(indexed) == before
    assert not score(tmp_path / "indexed.jsonl", indexed)[1]
