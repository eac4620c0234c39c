"""The config beside every checkpoint: it makes the same run again, and tells no secret."""

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from ray_train.config import TrainConfig, add_options, read_config
from ray_train.run.run_config import parameters, to_toml


def read_back(file: Path) -> TrainConfig:
    parser = argparse.ArgumentParser()
    add_options(parser, TrainConfig)
    return read_config(TrainConfig, parser.parse_args(["--config", str(file)]))


def test_a_config_comes_back_as_it_was(settings: Callable[..., TrainConfig], tmp_path: Path) -> None:
    odd = '/a "b" \\ ü\x7f\x01?*'
    config = settings(image_root=odd, learning_rate=1e-21, epsilon=1e16, seed=2**62, train_vision=True)
    (tmp_path / "config.toml").write_text(to_toml(config, "run abc-1"), encoding="utf-8")
    assert read_back(tmp_path / "config.toml") == config
    assert "restart" not in to_toml(settings(restart=True), "run abc-1")


def test_every_checkpoint_has_the_config_of_its_run(trained: TrainConfig) -> None:
    files = list(Path(trained.output).glob("runs/*/checkpoint_*/config.toml"))
    assert len(files) == 2
    for file in files:
        assert {**vars(read_back(file))} == {**vars(trained), **_urls(read_back(file))}


def _urls(config: TrainConfig) -> dict[str, str]:
    places = {name: getattr(config, name) for name in ("index", "image_root", "backbone", "output")}
    assert all(url.startswith("file:///") for url in places.values())
    return places


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://key:secret@bucket/a", "s3://***@bucket/a"),
        ("https://token@host/a", "https://***@host/a"),
        ("https://host/a?sig=secret&se=1", "https://host/a?***"),
        ("az://box/a?sv=1&sig=secret", "az://box/a?***"),
        ("abfs://box@account.dfs.core.windows.net/a", "abfs://box@account.dfs.core.windows.net/a"),
        ("file:///a?b@c", "file:///a?b@c"),
        ("/a:b@c?d", "/a:b@c?d"),
    ],
)
def test_what_a_url_carries_to_open_a_door_is_not_shown(
    url: str, shown: str, settings: Callable[..., TrainConfig]
) -> None:
    assert parameters(settings(index=url))["index"] == shown
