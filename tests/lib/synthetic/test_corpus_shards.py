"""The shards: their fields, their shape, their layouts, and that a seed decides every byte."""

import dataclasses
import json
import tracemalloc
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisieve.errors import UsageError
from bisieve.synthetic.corpus import Tally, write_corpus
from bisieve.synthetic.corpus_config import CorpusConfig
from bisieve.synthetic.corpus_sources import Source, generate, make_sources, rollouts_per_source
from bisieve.synthetic.shard_files import plan_shards
from bisieve.synthetic.solver import Solver
from bisieve.synthetic.tasks import TASKS

Records = dict[str, list[dict[str, Any]]]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def count(config: CorpusConfig) -> Tally:
    total = Tally("all")
    for source in make_sources(config):
        for _ in total.watch(generate(source, config)):
            pass
    return total


def test_there_is_one_shard_a_source_and_the_sources_are_very_unequal(small_rollouts: Records) -> None:
    sizes = {source: len(records) for source, records in small_rollouts.items()}
    assert sizes == {
        "grid_sum": 750,
        "row_total": 300,
        "row_difference": 210,
        "count_above": 135,
        "bar_range": 75,
        "number_sum": 30,
    }


def test_a_record_has_the_fields_of_visualprm400k_and_its_source_and_nothing_else(
    small_rollouts: Records,
) -> None:
    for source, records in small_rollouts.items():
        for record in records:
            assert list(record) == [
                "image",
                "question",
                "question_orig",
                "answer",
                "response",
                "steps_with_score",
                "num_mc_sequences",
                "source",
            ]
            assert record["source"] == source
            assert record["num_mc_sequences"] == 16
            assert record["question"].startswith(f"<image>\n{record['question_orig']}\n")
            assert record["response"] == "\n\n".join(step["step"] for step in record["steps_with_score"])


def test_a_step_carries_its_score_and_counts_and_no_word_about_the_truth(small_rollouts: Records) -> None:
    for records in small_rollouts.values():
        for record in records:
            for step in record["steps_with_score"]:
                assert list(step) == ["step", "score", "num_mc_correct", "num_mc_total"]
                assert step["num_mc_total"] == 16
                assert step["score"] == step["num_mc_correct"] / 16
                assert step["step"] == step["step"].strip() != ""


def test_with_early_stop_nothing_is_sampled_after_the_first_step_with_score_0(tmp_path: Path) -> None:
    config = CorpusConfig(rollouts=120, benchmark=0, solver=Solver(0.2, 0.3), seed=1)
    stopped = dataclasses.replace(config, early_stop=True)
    write_corpus(str(tmp_path / "full"), config)
    write_corpus(str(tmp_path / "stopped"), stopped)
    cut = 0
    for file in sorted((tmp_path / "full/annotations").iterdir()):
        other = tmp_path / "stopped/annotations" / file.name
        for line, of_stopped in zip(
            file.read_text().splitlines(), other.read_text().splitlines(), strict=True
        ):
            full, found = (json.loads(each)["steps_with_score"] for each in (line, of_stopped))
            zeros = [number for number, step in enumerate(full) if step["score"] == 0]
            kept = zeros[0] + 1 if zeros else len(full)
            assert found[:kept] == full[:kept]
            nothing = {"score": 0.0, "num_mc_correct": 0, "num_mc_total": 0}
            assert found[kept:] == [{**step, **nothing} for step in full[kept:]]
            cut += len(full) - kept
    assert cut > 20


def test_the_last_step_is_the_final_answer_and_its_score_says_whether_it_is_right(
    small_rollouts: Records,
) -> None:
    for records in small_rollouts.values():
        for record in records:
            *body, last = record["steps_with_score"]
            right = last["step"] == f"Final answer: {record['answer']}"
            assert last["step"].startswith("Final answer: ")
            assert last["score"] == float(right)
            assert not any(step["step"].startswith("Final answer") for step in body)


def test_every_image_named_is_there_and_is_named_by_about_three_rollouts_a_question(
    small_corpus: Path, small_rollouts: Records
) -> None:
    for records in small_rollouts.values():
        prompts = Counter((record["image"], record["question"]) for record in records)
        assert min(prompts.values()) >= 3
        assert all((small_corpus / image).is_file() for image, _ in prompts)


def test_the_shape_is_that_of_visualprm400k_by_default() -> None:
    tally = count(CorpusConfig(rollouts=12_000))
    mixed = tally.rollouts - tally.all_positive - tally.all_negative
    assert tally.steps / tally.rollouts == pytest.approx(5.6, abs=0.1)
    assert tally.all_positive / tally.rollouts == pytest.approx(0.91, abs=0.02)
    assert mixed / tally.rollouts == pytest.approx(0.08, abs=0.02)
    assert tally.all_negative / tally.rollouts == pytest.approx(0.01, abs=0.005)


def test_the_shape_follows_the_mistake_rate() -> None:
    few, many = (count(CorpusConfig(rollouts=3_000, solver=Solver(rate))) for rate in (0.01, 0.3))
    assert few.all_positive / few.rollouts > 0.93
    assert many.all_positive / many.rollouts < 0.7
    assert many.all_negative > few.all_negative


def test_low_scores_ties_and_lucky_recoveries_arise(small_rollouts: Records) -> None:
    records = [record for records in small_rollouts.values() for record in records]
    rollouts = [[step["score"] for step in record["steps_with_score"]] for record in records]
    assert any(0 < score < 0.2 for scores in rollouts for score in scores)
    assert any(min(scores) < 0.3 and scores[-1] == 1 for scores in rollouts)
    assert Counter(map(tuple, rollouts)).most_common(1)[0][1] > 100


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    small_corpus: Path, small_config: CorpusConfig, tmp_path: Path
) -> None:
    write_corpus(str(tmp_path / "same"), small_config)
    write_corpus(str(tmp_path / "other"), dataclasses.replace(small_config, seed=4))
    same, other = everything(tmp_path / "same"), everything(tmp_path / "other")
    assert same == everything(small_corpus)
    assert all(same[path] != other[path] for path in same if path.endswith(".jsonl"))


def test_how_rollouts_are_divided_into_shards_does_not_change_them(
    small_rollouts: Records, small_config: CorpusConfig, tmp_path: Path
) -> None:
    write_corpus(str(tmp_path), dataclasses.replace(small_config, shard_rollouts=100, benchmark=0))
    paths = sorted((tmp_path / "annotations").rglob("*.jsonl"))
    assert len({path.stem for path in paths}) == len(paths) == 8 + 3 + 3 + 2 + 1 + 1
    for source, records in small_rollouts.items():
        parts = [path.read_bytes() for path in paths if path.parent.name == source]
        assert [json.loads(line) for line in b"".join(parts).split(b"\n")[:-1]] == records
        assert all(part.count(b"\n") == 100 for part in parts[:-1])


@given(st.integers(1, 10**6), st.integers(1, 10**6) | st.none())
def test_a_plan_of_shards_holds_every_rollout_once(rollouts: int, shard_rollouts: int | None) -> None:
    shard_rollouts = shard_rollouts and max(shard_rollouts, rollouts // 500)
    shards = plan_shards("s", rollouts, shard_rollouts)
    assert sum(shard.rollouts for shard in shards) == rollouts
    assert all(0 < shard.rollouts <= (shard_rollouts or rollouts) for shard in shards)


@given(st.integers(1, 10**7))
def test_every_rollout_belongs_to_one_source(total: int) -> None:
    assert sum(rollouts_per_source(total)) == total


def test_the_layout_steps_holds_the_same_rollouts_scattered_over_its_shards(
    small_rollouts: Records, small_config: CorpusConfig, tmp_path: Path
) -> None:
    config = dataclasses.replace(small_config, layout="steps", shard_rollouts=50, benchmark=0)
    write_corpus(str(tmp_path), config)
    found: dict[str, dict[int, dict[str, Any]]] = {}
    shards_of: dict[str, set[str]] = {}
    order = []
    for path in sorted((tmp_path / "annotations").rglob("*.jsonl")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            step = json.loads(line)
            assert step["step_index"] not in found.setdefault(step["rollout_id"], {})
            found[step["rollout_id"]][step["step_index"]] = step
            shards_of.setdefault(step["rollout_id"], set()).add(path.name)
            order.append((step["rollout_id"], step["step_index"]))
    assert order != sorted(order)
    assert max(map(len, shards_of.values())) > 3
    regrouped: Records = {}
    for _, steps in sorted(found.items()):
        first = steps[0]
        ordered = [steps[index] for index in range(len(steps))]
        regrouped.setdefault(first["source"], []).append(
            {name: first[name] for name in ("image", "question", "question_orig", "answer")}
            | {
                "response": "\n\n".join(step["step"] for step in ordered),
                "steps_with_score": [
                    {name: step[name] for name in ("step", "score", "num_mc_correct", "num_mc_total")}
                    for step in ordered
                ],
                "num_mc_sequences": 16,
                "source": first["source"],
            }
        )
    assert regrouped == small_rollouts


def test_a_source_of_any_size_is_generated_in_bounded_memory() -> None:
    config = CorpusConfig(rollouts=10**9)
    pictures = make_sources(CorpusConfig())[0].pictures

    def peak(rollouts: int) -> int:
        tracemalloc.start()
        for _ in islice(generate(Source(TASKS[0], 10**9, pictures), config), rollouts):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak(9_500) < 1.2 * peak(3_000)


def test_a_finished_corpus_is_left_as_it_is(small_corpus: Path, small_config: CorpusConfig) -> None:
    before = {path: path.stat().st_mtime_ns for path in small_corpus.rglob("*")}
    written = write_corpus(str(small_corpus), small_config)
    assert not written.made_now
    assert sum(tally.rollouts for tally in written.tallies) == small_config.rollouts
    assert before == {path: path.stat().st_mtime_ns for path in small_corpus.rglob("*")}


def test_a_corpus_is_not_written_over_one_made_from_other_settings(
    small_corpus: Path, small_config: CorpusConfig
) -> None:
    with pytest.raises(UsageError, match="other settings"):
        write_corpus(str(small_corpus), dataclasses.replace(small_config, seed=99))


def test_a_corpus_is_not_written_among_shards_of_an_unfinished_one(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "old.jsonl").write_text("{}\n")
    with pytest.raises(UsageError, match="unfinished"):
        write_corpus(str(tmp_path), CorpusConfig(rollouts=10))


def test_a_corpus_on_s3_has_the_same_bytes(s3: str, tmp_path: Path) -> None:
    import fsspec

    config = CorpusConfig(rollouts=60, images=12, benchmark=10)
    write_corpus(str(tmp_path), config)
    write_corpus(f"{s3}/corpus-of-digits", config)
    fs, root = fsspec.core.url_to_fs(f"{s3}/corpus-of-digits")
    on_s3 = {path.removeprefix(root + "/"): fs.cat_file(path) for path in fs.find(root)}
    assert on_s3 == everything(tmp_path)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"rollouts": 0}, "--rollouts"),
        ({"seed": -1}, "--seed"),
        ({"shard_rollouts": 0}, "--shard-rollouts"),
        ({"images": 0}, "--images"),
        ({"continuations": 0}, "--continuations"),
        ({"benchmark": -1}, "--benchmark"),
        ({"solver": Solver(mistake_rate=1.5)}, "--mistake-rate"),
        ({"solver": Solver(correction_rate=float("nan"))}, "--correction-rate"),
    ],
)
def test_a_value_that_no_corpus_can_have_is_refused(options: dict[str, Any], name: str) -> None:
    with pytest.raises(UsageError, match=name):
        CorpusConfig(**options)
