"""Benchmark files: what is read, what is refused, and how their counts differ from the published ones."""

import bz2
import gzip
import json
import lzma
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.small_corpus import make_solution

from bisieve.errors import BisieveError, TrainingError
from ray_train.evaluation.benchmark import (
    VISUALPROCESSBENCH,
    Solution,
    published_counts,
    published_line,
    read_benchmark,
    repeated_line,
    repeated_solutions,
)
from ray_train.evaluation.metrics import judged_steps


def write(path: Path, *records: Any) -> str:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def changed(**fields: Any) -> dict[str, Any]:
    record = make_solution(0)
    response = {key: fields.pop(key) for key in ("steps", "process_correctness") if key in fields}
    return {**record, **fields, "response": {**record["response"], **response}}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", "truncated|malformed"),
        ('{"more": ' + "[" * 100_000 + "]" * 100_000 + "}", "recursion"),
        ("[]", "Expected `object`"),
        (changed(image=[]), "no image"),
        (changed(question=" "), "no question"),
        (changed(steps=[], process_correctness=[]), "no steps"),
        (changed(steps=["a", " ", "c"]), "an empty step"),
        (changed(process_correctness=[1]), "3 steps but 1 judgements"),
        (changed(process_correctness=[1, 2, 0]), "a judgement that is not"),
        (changed(process_correctness=[1, "1", 0]), "Expected `int`"),
        (changed(steps=["a<prm>", "b", "c"]), "marker <prm>"),
        ({"image": ["a"]}, "missing required field"),
    ],
)
def test_a_malformed_record_is_named_by_its_line(record: Any, message: str, tmp_path: Path) -> None:
    url = write(tmp_path / "benchmark.jsonl", make_solution(0), "", record)
    with pytest.raises(TrainingError, match=message) as error:
        read_benchmark(url)
    assert f"in line 3 of {url}" in str(error.value)


def test_an_empty_benchmark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="an empty file"):
        read_benchmark(write(tmp_path / "benchmark.jsonl", ""))


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress),
     (".zst", lambda data: pa.Codec("zstd").compress(data, asbytes=True))],
)  # fmt: skip
def test_a_benchmark_with_a_byte_order_mark_or_compressed_is_read_as_it_is(
    tmp_path: Path, suffix: str, compress: Any
) -> None:
    plain = write(tmp_path / "benchmark.jsonl", make_solution(0), make_solution(1))
    other = tmp_path / f"other.jsonl{suffix}"
    other.write_bytes(compress(b"\xef\xbb\xbf" + Path(plain).read_bytes()))
    assert read_benchmark(str(other)) == read_benchmark(plain)


def test_a_benchmark_that_is_a_json_array_is_named_so(tmp_path: Path) -> None:
    with pytest.raises(BisieveError, match="a JSON array, not JSON lines"):
        read_benchmark(write(tmp_path / "benchmark.jsonl", [make_solution(0), make_solution(1)]))


def test_neutral_and_unscored_steps_are_left_out(tmp_path: Path) -> None:
    url = write(tmp_path / "benchmark.jsonl", changed(process_correctness=[0, 1, -1]), make_solution(1))
    solutions = read_benchmark(url)
    steps = judged_steps(solutions, [[0.9, 0.8, 0.7], [0.6, 0.5]])
    assert steps.rewards.tolist() == [0.8, 0.7, 0.5]
    assert steps.correct.tolist() == [True, False, True]
    assert steps.sources.tolist() == ["odd", "odd", "even"]
    assert len(np.unique(steps.questions)) == 2
    assert (steps.solutions.tolist(), steps.positions.tolist()) == ([1, 1, 2], [2, 3, 2])
    assert (steps.lengths.tolist(), steps.whole.tolist()) == ([3, 3, 3], [True, True, False])


@pytest.fixture(scope="module")
def whole() -> list[Solution]:
    """As many solutions, right steps and wrong steps as published; of each source the first has most."""
    made = []
    for source in ("MMMU_DEV_VAL", "MathVision_MINI", "MathVerse_MINI_Vision_Only", "DynaMath", "WeMath"):
        solutions, right, wrong = VISUALPROCESSBENCH[source.partition("_")[0]]
        one = Solution(1, ("a.png",), "Why?", ("a",), (1,), source, "")
        most = (1,) * (right - solutions + 1) + (-1,) * wrong + (0,)
        made += [replace(one, steps=("a",) * len(most), judgements=most), *[one] * (solutions - 1)]
    return made


def test_the_published_counts_are_those_of_the_paper() -> None:
    solutions, right, wrong = (sum(counts) for counts in zip(*VISUALPROCESSBENCH.values(), strict=True))
    assert (solutions, right, wrong) == (2866, 16585, 7691)


def test_the_whole_benchmark_is_recognized(whole: list[Solution]) -> None:
    found = published_counts(whole)
    assert found == {"is": "whole", "different": {}}
    assert "with the published counts" in published_line(found)


def test_a_part_says_what_is_missing(whole: list[Solution]) -> None:
    found = published_counts(whole[:-1])
    assert found == {"is": "part", "different": {"WeMath": {"solutions": [290, 291], "right": [1775, 1776]}}}
    assert "a part of VisualProcessBench: 290 solutions of WeMath instead of 291" in published_line(found)


def test_a_file_without_a_source_is_a_part(whole: list[Solution]) -> None:
    found = published_counts([solution for solution in whole if solution.source != "MMMU_DEV_VAL"])
    assert found == {
        "is": "part",
        "different": {"MMMU": {"solutions": [0, 267], "right": [0, 1698], "wrong": [0, 708]}},
    }


def test_judgements_that_were_changed_are_named(whole: list[Solution]) -> None:
    turned = replace(whole[-1], judgements=(-1,))
    found = published_counts([*whole[:-1], turned])
    assert found == {
        "is": "other counts",
        "different": {"WeMath": {"right": [1775, 1776], "wrong": [583, 582]}},
    }
    assert "but other counts: 1,775 right steps of WeMath instead of 1,776" in published_line(found)


def test_a_file_with_other_sources_claims_nothing(whole: list[Solution]) -> None:
    other = replace(whole[0], source="geometry")
    assert published_counts([*whole, other]) is None
    assert published_line(None) == ""


def test_sources_of_the_benchmark_may_be_in_lower_case(whole: list[Solution]) -> None:
    lower = [replace(solution, source=solution.source.lower()) for solution in whole]
    assert published_counts(lower) == published_counts(whole)


def test_a_solution_that_is_there_twice_is_told_where_all_counts_are_the_published_ones(
    whole: list[Solution],
) -> None:
    """One solution was lost, and another one of as many steps is there in its place."""
    apart = [replace(solution, question=f"Why {line}?", line=line) for line, solution in enumerate(whole)]
    twice = [*apart[:-1], replace(apart[-2], line=len(apart) - 1)]
    assert published_line(published_counts(twice)) == published_line(published_counts(apart))
    assert (repeated_solutions(apart), repeated_solutions(twice)) == (0, 1)
    assert repeated_solutions([apart[0], replace(apart[0], policy="another")]) == 0
    assert repeated_line(1) == "note: 1 solution is as an earlier one of the benchmark; each counts"
    assert repeated_line(0) == ""
