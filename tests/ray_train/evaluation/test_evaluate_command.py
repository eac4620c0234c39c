"""What ``bisieve evaluate`` prints, with an evaluation that only says something."""

import json
from pathlib import Path
from typing import Any

import pytest

from bisieve.cli.main import main
from ray_train.cli import IMPORTING
from ray_train.cluster import silenced_core
from ray_train.evaluation import evaluate as evaluation

ASKED = ["evaluate", "--model", "m", "--benchmark", "b.jsonl", "--image-root", "i", "--output", "o"]
METRICS = {"run": "abc-1", "overall_f1": 0.5, "auc": None}


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def evaluate(config: Any) -> dict[str, Any]:
        with silenced_core():  # as while Ray scores
            print(f"model: {config.model}", flush=True)
        return METRICS

    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    monkeypatch.chdir(tmp_path)


def test_text_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(ASKED) == 0
    assert capsys.readouterr().out.splitlines() == [IMPORTING, "model: m"]


def test_json_is_alone_on_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*ASKED, "--json"]) == 0
    captured = capfd.readouterr()
    assert json.loads(captured.out) == METRICS
    assert captured.err.splitlines() == [IMPORTING, "model: m"]
