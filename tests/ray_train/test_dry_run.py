"""What a dry run says, needs and leaves behind."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROLLOUTS

from ray_train import launch
from ray_train.config import TrainConfig
from ray_train.launch import train

Settings = Callable[..., TrainConfig]


def test_a_dry_run_tells_all_and_needs_neither_ray_nor_weights_and_writes_nothing(
    settings: Settings,
    internvl: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(internvl, tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    monkeypatch.setattr(launch, "_fit", None)
    before = sorted(tmp_path.rglob("*"))
    train(settings(backbone=str(tmp_path / "bare"), dry_run=True, validation_fraction=0.3))
    assert sorted(tmp_path.rglob("*")) == before
    out = capsys.readouterr().out
    print(out)
