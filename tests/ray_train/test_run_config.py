"""The config beside every checkpoint: it makes the same run again, and tells no secret."""

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from ray_train.choices import Workers
from ray_train.config import TrainConfig
from ray_train.config_io import add_options, parameters, read_config, to_toml
from ray_train.model.files import contents_of
from ray_train.model.metadata import read_card


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


def test_the_value_chosen_for_an_open_option_is_written_behind_it(
    settings: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = settings(workers=Workers(2, 8), seed=3)
    used = {"workers": 4, "precision": "bf16", "seed": 3, "backbone": "contents abc"}
    text = to_toml(config, "run abc-1", used)
    assert {'workers = "2-8"  # 4', 'precision = "auto"  # bf16', "seed = 3"} <= set(text.splitlines())
    assert f'backbone = "{config.backbone}"  # contents abc' in text
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    assert read_back(tmp_path / "config.toml") == config


def test_every_checkpoint_has_the_config_of_its_run_and_what_was_used(trained: TrainConfig) -> None:
    files = list(Path(trained.output).glob("runs/*/checkpoint_*/config.toml"))
    assert len(files) == 2
    card = read_card(trained.output)
    assert card is not None
    contents = contents_of(trained.backbone)
    assert card["used"] | {"data_workers": 0} == {
        "precision": card["identity"]["precision"], "backbone": f"contents {contents}", "max_tiles": 1,
        "workers": 2, "data_workers": 0, "peak_flops": "unknown",
    }  # fmt: skip
    for file in files:
        lines = file.read_text().splitlines()
        assert f'precision = "auto"  # {card["used"]["precision"]}' in lines
        assert f"data_workers = -1  # {card['used']['data_workers']}" in lines
        assert any(line.endswith(f"# contents {contents}") for line in lines)
        version = {"index_version": card["identity"]["index"]}
        assert {**vars(read_back(file))} == {**vars(trained), **_urls(read_back(file)), **version}


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
