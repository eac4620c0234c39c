"""From parameters to arguments."""

import sys
from typing import Any

import pytest
from real_airflow import DAGS

sys.path.insert(0, str(DAGS))

from bisieve_airflow import arguments


@pytest.fixture
def run() -> dict[str, Any]:
    return {
        "input": ["s3://c/a b", "s3://c/$(x)"], "index": "s3://c/index", "image_root": "s3://c",
        "backbone": "b", "benchmark": "s3://c/b.jsonl", "models": "s3://m/", "fraction": 0.1,
        "workers": "2-8", "metric": "auc",
        "score_options": {"alpha": 0.1, "field": ["step=text", "image=picture"]},
        "train_options": {"train_vision": True, "train_language": False}, "evaluate_options": {},
    }  # fmt: skip


def test_options_become_flags_and_nothing_is_for_a_shell(run: dict[str, Any]) -> None:
    assert arguments.score(run) == [
        "--alpha=0.1", "--field=step=text", "--field=image=picture",
        "--index", "s3://c/index", "--input", "s3://c/a b", "s3://c/$(x)",
    ]  # fmt: skip
    assert arguments.train(run, "v1")[-2:] == ["--train-vision", "--no-train-language"]


def test_what_has_passed_the_gate_is_trained_whatever_is_published_since(run: dict[str, Any]) -> None:
    assert "--index-version=v1" in arguments.train(run, "v1")


@pytest.mark.parametrize("name", ["backbone", "fraction", "train_options", "image_root"])
def test_what_would_learn_something_else_has_another_model(run: dict[str, Any], name: str) -> None:
    assert arguments.model(run, "v1") != arguments.model({**run, name: "other"}, "v1")
    assert arguments.model(run, "v1") != arguments.model(run, "v2")


def test_more_workers_make_the_same_model(run: dict[str, Any]) -> None:
    assert arguments.model(run, "v1") == arguments.model({**run, "workers": 64}, "v1")


def test_what_is_promoted_is_what_was_trained_and_evaluated(run: dict[str, Any]) -> None:
    model = arguments.model(run, "v1")
    assert f"--output={model}" in arguments.train(run, "v1")
    assert f"--model={model}" in arguments.evaluate(run, "v1")
    assert arguments.promote(run, "v1") == [
        "promote", f"--model={model}", f"--metrics={model}-metrics", "--pointer=s3://m/current.json",
        "--metric=auc",
    ]  # fmt: skip
