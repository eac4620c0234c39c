"""What each rollout of a selection weighs, and which files of the user's are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bisieve.errors import TrainingError, UsageError
from ray_train.choices import column_of
from ray_train.data.labels import rollout_weights, weights_name

ROWS = pa.table({"rollout_id": ["a", "b", "b", "c"], "bis": [0.1, 0.2, 0.2, 0.3]})


def weights_of(folder: Path, ids: list[Any], **columns: list[Any]) -> Any:
    pq.write_table(pa.table({"rollout_id": ids, **columns}), folder / "w.parquet")
    return rollout_weights(ROWS, f"{folder}/w.parquet:w")


def test_without_a_choice_all_weigh_the_same() -> None:
    assert rollout_weights(ROWS, "uniform").tolist() == [1.0] * 4


def test_a_score_of_the_index_is_scaled_to_a_mean_of_one() -> None:
    assert rollout_weights(ROWS, "bis") == pytest.approx([0.5, 1, 1, 1.5])


def test_a_column_of_a_file_is_looked_up_by_rollout_id(tmp_path: Path) -> None:
    weights = weights_of(tmp_path, ["c", "x", "b", "a", "b"], w=[0, 99, 3, 6, 3], other=[None] * 5)
    assert weights == pytest.approx([2, 1, 1, 0])
    assert weights_of(tmp_path, ["a", "b", "c"], w=[1.5e308] * 3).tolist() == [1.0] * 4


@pytest.mark.parametrize(
    ("ids", "values", "message"),
    [
        (
            ["a", "b"],
            [1.0, 1.0],
            "a weight in .* for every rollout of the selection; found none for 1, such as c",
        ),
        (
            ["a", "b", "c"],
            [1.0, -1.0, 1.0],
            "finite weights of 0 or more .*1 that are not, such as -1 of rollout b",
        ),
        (["a", "b", "c"], [1.0, 1.0, float("inf")], "such as inf of rollout c"),
        (["a", "b", "c"], [float("nan"), 1.0, 1.0], "such as nan of rollout a"),
        (["a", "a", "b", "c"], [None, 1.0, 1.0, 1.0], "such as nan of rollout a"),
        (["a", "a", "b", "c"], [1.0, 2.0, 1.0, 1.0], "one weight a rollout .*several for 1, such as a"),
        (["a", "b", "c"], [0, 0, 0], "a weight above 0 .*found none"),
        (["a", "b", "c"], ["1", "2", "3"], "numbers in column w .*found string"),
        ([1.5, 2.5, 3.5], [1.0, 1.0, 1.0], "a weight in .* for every rollout of the selection"),
        ([["a"], ["b"], ["c"]], [1.0, 1.0, 1.0], "a Parquet file"),
    ],
)
def test_weights_that_cannot_be_are_named(
    ids: list[Any], values: list[Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=message):
        weights_of(tmp_path, ids, w=values)


def test_a_file_that_is_none_or_lacks_a_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"a column w in .*found only rollout_id, v; correct"):
        weights_of(tmp_path, ["a"], v=[1.0])
    pq.write_table(pa.table({"w": [1.0]}), tmp_path / "w.parquet")
    with pytest.raises(TrainingError, match=r"a column rollout_id in .*found only w; correct"):
        rollout_weights(ROWS, f"{tmp_path}/w.parquet:w")
    (tmp_path / "w.parquet").write_text("no Parquet")
    with pytest.raises(TrainingError, match="a Parquet file at"):
        rollout_weights(ROWS, f"{tmp_path}/w.parquet:w")


@pytest.mark.parametrize("choice", ["", "BIS", "w.parquet", "w.csv:w", ".parquet:w", "w.parquet:"])
def test_a_choice_that_is_none_is_refused(choice: str) -> None:
    with pytest.raises(UsageError, match=r"--rollout-weights"):
        column_of(choice)


def test_urls_and_columns_may_hold_colons() -> None:
    assert column_of("s3://b/w.parquet:a:b") == ("s3://b/w.parquet", "a:b")


def test_weights_of_a_file_are_named_by_what_they_are(tmp_path: Path) -> None:
    one, other = np.array([0.5, 1.5]), np.array([1.5, 0.5])
    assert weights_name(one, "bis") == "bis"
    assert weights_name(one, "x.parquet:w") == weights_name(one.copy(), "y.parquet:v")
    assert weights_name(one, "x.parquet:w") != weights_name(other, "x.parquet:w")
