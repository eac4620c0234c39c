"""Trackers that surely cannot start are refused in the driver, before Ray starts."""

import os
import socket
from importlib import util
from pathlib import Path

import pytest

from bisieve.errors import TrainingError
from ray_train.tracking import base
from ray_train.tracking.base import check_trackers


@pytest.fixture(autouse=True)
def no_accounts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "WANDB_", "RAY_ADDRESS"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def test_tensorboard_and_none_need_nothing() -> None:
    check_trackers("none")
    check_trackers("tensorboard")


@pytest.mark.parametrize("uri", ["sqlite:///x.db", "postgresql+psycopg2://me:secret@db/mlflow", ""])
def test_mlflow_skinny_reads_no_database(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert util.find_spec("sqlalchemy") is None  # else this tests nothing
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrainingError, match=r"found mlflow-skinny.*; pip install mlflow") as error:
        check_trackers("mlflow")
    assert "secret" not in str(error.value)


def test_a_variable_that_is_not_set_here_says_nothing_on_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    check_trackers("mlflow,wandb")


def test_an_mlflow_server_must_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(TrainingError, match=f"a server that answers at MLFLOW_TRACKING_URI.*{uri}"):
            check_trackers("mlflow")
        server.listen()
        check_trackers("mlflow")


@pytest.mark.parametrize(
    ("name", "value"), [("WANDB_API_KEY", "k"), ("WANDB_MODE", "offline"), ("WANDB_IDENTITY_TOKEN_FILE", "f")]
)
def test_wandb_wants_an_account_or_to_be_offline(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=r"neither WANDB_API_KEY nor a login to api\.wandb\.ai"):
        check_trackers("wandb")
    monkeypatch.setenv(name, value)
    check_trackers("wandb")


def test_a_login_to_wandb_is_an_account(tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password k\n")
    check_trackers("wandb")


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=r"no module wandb; pip install 'bisieve\[wandb\]'"):
        check_trackers("wandb")
