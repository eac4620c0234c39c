"""Benchmark files: what is read, and what is refused."""

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.small_corpus import make_solution

from bisieve.errors import BisieveError, TrainingError
from ray_train.evaluation.benchmark import read_benchmark
from ray_train.evaluation.steps import judged_steps


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
